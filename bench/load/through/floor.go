package through

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// floorWorkers is how many calls the floor program makes at a time to each side: as many as virtualnode has workers.
const floorWorkers = 20

// labelFloor marks the lower pods of the floor program; gateFloor keeps them from the lower scheduler until it has a hint for them.
const (
	labelFloor = "bench.tessera.sh/floor"
	gateFloor  = "bench.tessera.sh/floor"
)

// Floor makes the writes that any virtual node must make, and no others: each pod bound to node is created below, and when
// it runs there its status is written above. hints are lower nodes that pods are nominated for, in turn, which takes two writes more:
// the nomination can only be written into a pod that exists, and must be there before the lower scheduler looks. It keeps nothing,
// checks nothing and mends nothing. ready is called once it watches both sides; it works until ctx ends.
func Floor(ctx context.Context, upper, lower kubernetes.Interface, node string, hints []string, ready func()) error {
	creates, reports := make(chan *corev1.Pod, 1<<16), make(chan *corev1.Pod, 1<<16)
	above := coreinformers.NewFilteredPodInformer(upper, "", 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
	})
	below := coreinformers.NewFilteredPodInformer(lower, "", 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.LabelSelector = labelFloor + "=true"
	})
	if _, err := above.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { creates <- object.(*corev1.Pod) },
	}); err != nil {
		return fmt.Errorf("watching pods above: %w", err)
	}
	if _, err := below.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(before, now any) {
			if now := now.(*corev1.Pod); runs(now) && !runs(before.(*corev1.Pod)) {
				reports <- now
			}
		},
	}); err != nil {
		return fmt.Errorf("watching pods below: %w", err)
	}
	var group sync.WaitGroup
	group.Go(func() { above.RunWithContext(ctx) })
	group.Go(func() { below.RunWithContext(ctx) })
	failed := make(chan error, 2*floorWorkers)
	bring := createBelow
	if len(hints) > 0 {
		bring = (&nominator{nodes: hints}).createBelow
	}
	for range floorWorkers {
		group.Go(func() { failed <- each(ctx, creates, lower, bring) })
		group.Go(func() { failed <- each(ctx, reports, upper, reportAbove) })
	}
	if cache.WaitForCacheSync(ctx.Done(), above.HasSynced, below.HasSynced) {
		ready()
	}
	select {
	case <-ctx.Done():
		group.Wait()
		return nil
	case err := <-failed:
		return err
	}
}

func runs(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning }

// each makes one call for each pod until ctx ends.
func each(ctx context.Context, pods <-chan *corev1.Pod, c kubernetes.Interface,
	call func(context.Context, kubernetes.Interface, *corev1.Pod) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case pod := <-pods:
			if err := call(ctx, c, pod); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
}

func createBelow(ctx context.Context, lower kubernetes.Interface, upper *corev1.Pod) error {
	if _, err := lower.CoreV1().Pods(upper.Namespace).Create(ctx, podBelow(upper), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating pod below: %w", err)
	}
	return nil
}

// nominator creates pods that are nominated for one node after the other.
type nominator struct {
	nodes []string
	next  atomic.Int64
}

func (n *nominator) createBelow(ctx context.Context, lower kubernetes.Interface, upper *corev1.Pod) error {
	pods, pod := lower.CoreV1().Pods(upper.Namespace), podBelow(upper)
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: gateFloor}}
	created, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating pod below: %w", err)
	}
	node := n.nodes[int(n.next.Add(1))%len(n.nodes)]
	nominate := fmt.Appendf(nil, `{"metadata":{"uid":%q},"status":{"nominatedNodeName":%q}}`, created.UID, node)
	if _, err := pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, nominate, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("nominating a node: %w", err)
	}
	ungate := fmt.Appendf(nil, `{"metadata":{"uid":%q},"spec":{"schedulingGates":null}}`, created.UID)
	if _, err := pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, ungate, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("taking the gate off: %w", err)
	}
	return nil
}

// podBelow is the pod that is created below for an upper one.
func podBelow(upper *corev1.Pod) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: upper.Namespace, Name: upper.Name, Labels: map[string]string{labelFloor: "true"}},
		Spec:       *upper.Spec.DeepCopy(),
	}
	pod.Spec.NodeName, pod.Spec.SchedulerName, pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = "", "", "", ""
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = nil, nil
	for i := range pod.Spec.Containers {
		delete(pod.Spec.Containers[i].Resources.Requests, keys.PodResource)
		delete(pod.Spec.Containers[i].Resources.Limits, keys.PodResource)
	}
	return pod
}

func reportAbove(ctx context.Context, upper kubernetes.Interface, lower *corev1.Pod) error {
	status := lower.Status
	status.QOSClass, status.HostIP, status.HostIPs, status.PodIP, status.PodIPs = "", "", nil, "", nil
	patch, err := json.Marshal(&corev1.Pod{Status: status})
	if err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	_, err = upper.CoreV1().Pods(lower.Namespace).
		Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	return nil
}
