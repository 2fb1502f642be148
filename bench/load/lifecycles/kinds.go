package lifecycles

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// kind is one way to live. play returns an error only when the driver itself cannot go on.
type kind struct {
	name  string
	share int // of the sum of all shares
	play  func(d *driver, ctx context.Context, name string, random *rand.Rand) error
}

// kinds are all of them. Those that leave orphans, or are missed below, while virtualnode is down are few, so that the brakes, which
// are there for disasters, stay open.
var kinds = []kind{
	{name: "complete", share: 20, play: (*driver).complete},
	{name: "delete", share: 20, play: (*driver).deleteGracefully},
	{name: "recreate", share: 15, play: (*driver).recreate},
	{name: "replace-at-once", share: 5, play: (*driver).replaceAtOnce},
	{name: "update", share: 12, play: (*driver).update},
	{name: "force", share: 6, play: (*driver).force},
	{name: "vanish", share: 5, play: (*driver).vanish},
	{name: "stay", share: 13, play: (*driver).stay},
	{name: "refused", share: 2, play: (*driver).refused},
	{name: "brings", share: 10, play: (*driver).brings},
	{name: "namespace", share: 4, play: (*driver).ownNamespace},
}

// pick chooses a kind by its share.
func pick(random *rand.Rand) kind {
	total := 0
	for _, k := range kinds {
		total += k.share
	}
	at := random.IntN(total)
	for _, k := range kinds {
		if at -= k.share; at < 0 {
			return k
		}
	}
	panic("the shares add up to more than their sum")
}

// pause waits for a moment of up to limit.
func pause(ctx context.Context, random *rand.Rand, limit time.Duration) {
	sleep(ctx, time.Duration(random.Int64N(int64(limit))))
}

func annotated(pod *corev1.Pod, pairs ...string) *corev1.Pod {
	for i := 0; i < len(pairs); i += 2 {
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, "lab.tessera.sh/"+pairs[i], pairs[i+1])
	}
	return pod
}

// complete: the pod ends by itself, well or badly, and is deleted then, as the pod of a Job.
func (d *driver) complete(ctx context.Context, name string, random *rand.Rand) error {
	phase, code := corev1.PodSucceeded, int32(0)
	if random.IntN(4) == 0 {
		phase, code = corev1.PodFailed, 3
	}
	pod := annotated(plainPod(name), "run-seconds", fmt.Sprint(1+random.IntN(3)), "exit-code", fmt.Sprint(code))
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	i, err := d.create(ctx, "complete", pod)
	if err != nil {
		return err
	}
	d.sees(ctx, i, fmt.Sprintf("%s with exit code %d", phase, code), func(l life) bool {
		if l.last == nil || l.last.Status.Phase != phase || len(l.last.Status.ContainerStatuses) != 1 {
			return false
		}
		ended := l.last.Status.ContainerStatuses[0].State.Terminated
		return ended != nil && ended.ExitCode == code && ended.Reason != "LowerPodGone"
	})
	return d.end(ctx, i, nil)
}

// end deletes an upper pod and waits until it has gone.
func (d *driver) end(ctx context.Context, i *instance, grace *int64) error {
	if err := d.remove(ctx, i, grace); err != nil {
		return err
	}
	if i.trouble == "" {
		d.goes(ctx, i)
	}
	return nil
}

// deleteGracefully: deleted at any moment of its life, with any grace; some use it up.
func (d *driver) deleteGracefully(ctx context.Context, name string, random *rand.Rand) error {
	pod := plainPod(name)
	if random.IntN(3) == 0 {
		pod = annotated(pod, "slow-stop", "true")
	}
	i, err := d.create(ctx, "delete", pod)
	if err != nil {
		return err
	}
	if random.IntN(2) == 0 {
		d.sees(ctx, i, "running", running)
	} else {
		pause(ctx, random, 500*time.Millisecond)
	}
	grace := 1 + random.Int64N(3)
	return d.end(ctx, i, &grace)
}

// recreate: deleted, and made again under the same name as soon as that is free, as the pod of a StatefulSet.
func (d *driver) recreate(ctx context.Context, name string, random *rand.Rand) error {
	for range 2 {
		i, err := d.create(ctx, "recreate", plainPod(name))
		if err != nil {
			return err
		}
		d.sees(ctx, i, "running", running)
		grace := 1 + random.Int64N(2)
		if err := d.end(ctx, i, &grace); err != nil {
			return err
		}
	}
	return nil
}

// replaceAtOnce: deleted with force and made again at once, while the lower pod of the first still ends.
func (d *driver) replaceAtOnce(ctx context.Context, name string, random *rand.Rand) error {
	pod := annotated(plainPod(name), "slow-stop", "true")
	grace := int64(2)
	pod.Spec.TerminationGracePeriodSeconds = &grace
	first, err := d.create(ctx, "replace-at-once", pod.DeepCopy())
	if err != nil {
		return err
	}
	pause(ctx, random, time.Second)
	if err := d.remove(ctx, first, new(int64)); err != nil {
		return err
	}
	second, err := d.create(ctx, "replace-at-once", pod)
	if err != nil {
		return err
	}
	d.sees(ctx, second, "running", running)
	return d.end(ctx, second, nil)
}

// update: its image, a label and an annotation change and are seen below.
func (d *driver) update(ctx context.Context, name string, random *rand.Rand) error {
	i, err := d.create(ctx, "update", plainPod(name))
	if err != nil {
		return err
	}
	if random.IntN(2) == 0 {
		d.sees(ctx, i, "running", running)
	} else {
		pause(ctx, random, 300*time.Millisecond)
	}
	patch := []byte(`{"metadata":{"labels":{"changed":"yes"},"annotations":{"changed":"yes"}},` +
		`"spec":{"containers":[{"name":"c","image":"app:2"}]}}`)
	if err := d.until(ctx, func(ctx context.Context) error {
		_, err := d.upper.CoreV1().Pods(d.namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("changing pod %s: %w", name, err)
	}
	if err := poll(ctx, func(context.Context) error {
		below, ok := d.below.below(i.uid)
		if !ok || below.Labels["changed"] != "yes" || below.Annotations["changed"] != "yes" || below.Spec.Containers[0].Image != "app:2" {
			return fmt.Errorf("below (there: %v) it is not as it was changed above", ok)
		}
		return nil
	}); err != nil {
		i.trouble = err.Error()
	}
	d.sees(ctx, i, "running", running)
	return d.end(ctx, i, nil)
}

// force: deleted with grace 0 at any moment, so that the upper object goes at once.
func (d *driver) force(ctx context.Context, name string, random *rand.Rand) error {
	i, err := d.create(ctx, "force", plainPod(name))
	if err != nil {
		return err
	}
	pause(ctx, random, time.Second)
	return d.end(ctx, i, new(int64))
}

// vanish: somebody deletes the lower pod, and the upper one fails so that its controller would make another.
func (d *driver) vanish(ctx context.Context, name string, _ *rand.Rand) error {
	i, err := d.create(ctx, "vanish", plainPod(name))
	if err != nil {
		return err
	}
	if !d.sees(ctx, i, "running", running) {
		return d.end(ctx, i, nil)
	}
	if err := d.delete(ctx, d.lower, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		return err
	}
	d.sees(ctx, i, "failed after its lower pod has gone", func(l life) bool {
		return l.last.Status.Phase == corev1.PodFailed && l.last.Status.Reason != ""
	})
	return d.end(ctx, i, nil)
}

// stay: runs to the end of the play.
func (d *driver) stay(ctx context.Context, name string, _ *rand.Rand) error {
	i, err := d.create(ctx, "stay", plainPod(name))
	if err != nil {
		return err
	}
	i.stays = true
	d.sees(ctx, i, "running", running)
	return nil
}

// refused: the name is taken below by somebody else, so the pod never runs.
func (d *driver) refused(ctx context.Context, _ string, random *rand.Rand) error {
	d.names.Lock() // One pod at a time has that name.
	defer d.names.Unlock()
	i, err := d.create(ctx, "refused", plainPod(taken))
	if err != nil {
		return err
	}
	i.refused = true
	pause(ctx, random, 3*time.Second)
	if d.above.get(i.uid).starts > 0 {
		i.trouble = "runs although its name belongs to others below"
	}
	if err := d.remove(ctx, i, new(int64)); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	d.goes(ctx, i)
	return nil
}
