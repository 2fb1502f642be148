package lifecycles

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// patience bounds every wait for something that has to come: an API server that was killed is back after seconds, and
// informers and retries take up to half a minute then.
const patience = time.Minute

// driver plays lifecycles on the virtual node of a lab's first lower cluster.
type driver struct {
	lab          *lab.Lab
	upper, lower kubernetes.Interface
	namespace    string
	node         string
	progress     func(format string, args ...any)
	planted      map[string]string
	above, below *census

	names     sync.Mutex // held by the one instance that has the name of somebody else's
	mu        sync.Mutex
	instances []*instance
}

func newDriver(l *lab.Lab, namespace string, progress func(format string, args ...any)) (*driver, error) {
	upper, err := lab.NewClient(l.Upper())
	if err != nil {
		return nil, err
	}
	lower, err := lab.NewClient(l.Lower(1))
	if err != nil {
		return nil, err
	}
	return &driver{lab: l, upper: upper, lower: lower, namespace: namespace, node: l.LowerName(1), progress: progress}, nil
}

func makeNamespace(ctx context.Context, c kubernetes.Interface, name string) error {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.Enabled: "true"}}}
	if _, err := c.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating namespace: %w", err)
	}
	return poll(ctx, func(ctx context.Context) error {
		_, err := c.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func podName(i int) string { return fmt.Sprintf("life-%04d", i) }

// plainPod is a pod that runs until it is deleted, and ends at once then.
func plainPod(name string) *corev1.Pod {
	no := false
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{
				Name: "c", Image: "app:1",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
			}},
		},
	}
}

// bound makes it one that came through admission and is bound to the virtual node.
func (d *driver) bound(pod *corev1.Pod) *corev1.Pod {
	zero := resource.MustParse("0")
	pod.Spec.NodeName = d.node
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	pod.Spec.Containers[0].Resources.Requests[keys.PodResource] = zero
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{keys.PodResource: zero}
	return pod
}

// create makes an upper pod and takes it into the books. An attempt whose answer was lost with an API server is recognized
// by the label that this instance alone has.
func (d *driver) create(ctx context.Context, kind string, pod *corev1.Pod) (*instance, error) {
	mark := fmt.Sprintf("%08x", rand.Uint32())
	pod = d.bound(pod)
	metav1.SetMetaDataLabel(&pod.ObjectMeta, "instance", mark)
	var made *corev1.Pod
	err := d.until(ctx, func(ctx context.Context) (err error) {
		made, err = d.upper.CoreV1().Pods(d.namespace).Create(ctx, pod, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			made, err = d.upper.CoreV1().Pods(d.namespace).Get(ctx, pod.Name, metav1.GetOptions{})
			if err == nil && made.Labels["instance"] != mark {
				err = fmt.Errorf("the pod before it is still there (deleted: %v)", made.DeletionTimestamp != nil)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("creating %s pod %s: %w", kind, pod.Name, err)
	}
	i := &instance{kind: kind, name: made.Name, uid: made.UID}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.instances = append(d.instances, i)
	return i, nil
}

// remove deletes the upper pod of an instance; grace nil is the pod's own.
func (d *driver) remove(ctx context.Context, i *instance, grace *int64) error {
	i.deleted = true
	return d.delete(ctx, d.upper, i.name, metav1.DeleteOptions{
		GracePeriodSeconds: grace, Preconditions: metav1.NewUIDPreconditions(string(i.uid)),
	})
}

func (d *driver) delete(ctx context.Context, c kubernetes.Interface, name string, options metav1.DeleteOptions) error {
	return d.until(ctx, func(ctx context.Context) error {
		err := c.CoreV1().Pods(d.namespace).Delete(ctx, name, options)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // It has gone; another of that name may be there.
		}
		return err
	})
}

// sees waits until the upper pod of an instance is seen as ok says; what is waited for in vain is the instance's trouble.
func (d *driver) sees(ctx context.Context, i *instance, what string, ok func(life) bool) bool {
	err := poll(ctx, func(context.Context) error {
		l := d.above.get(i.uid)
		if !ok(l) {
			return errors.New(describe(l))
		}
		return nil
	})
	if err != nil {
		i.trouble = fmt.Sprintf("is not %s: %v", what, err)
		d.progress("%s pod %s %s", i.kind, i.name, i.trouble)
	}
	return err == nil
}

// goes waits until the upper pod of an instance has gone. One that came and went while the watch was broken was never seen,
// so the API server is asked.
func (d *driver) goes(ctx context.Context, i *instance) {
	d.sees(ctx, i, "gone", func(l life) bool {
		if l.last != nil {
			return l.gone
		}
		pod, err := d.upper.CoreV1().Pods(d.namespace).Get(ctx, i.name, metav1.GetOptions{})
		return apierrors.IsNotFound(err) || err == nil && pod.UID != i.uid
	})
}

func describe(l life) string {
	if l.last == nil {
		return "never seen"
	}
	return fmt.Sprintf("%s %s %q, deleted %v, gone %v", l.last.Status.Phase, l.last.Status.Reason, l.last.Status.Message,
		l.last.DeletionTimestamp != nil, l.gone)
}

func running(l life) bool {
	return l.last != nil && l.last.Status.Phase == corev1.PodRunning && !l.gone
}

// until tries until there is no error; one that trying again does not mend comes back at once.
func (d *driver) until(ctx context.Context, try func(context.Context) error) error {
	var final error
	err := poll(ctx, func(ctx context.Context) error {
		err := try(ctx)
		if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
			final = err
			return nil
		}
		return err
	})
	return errors.Join(err, final)
}

// poll tries until there is no error; when the patience is over the last one comes back.
func poll(ctx context.Context, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		last = try(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("not within %s: %w", patience, last)
	}
	return nil
}

// note takes what was waited for in vain into the books: the first is the trouble of an instance.
func (d *driver) note(i *instance, err error) {
	if err != nil && i.trouble == "" {
		i.trouble = err.Error()
		d.progress("%s pod %s: %s", i.kind, i.name, i.trouble)
	}
}

func (d *driver) known() []*instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.instances)
}
