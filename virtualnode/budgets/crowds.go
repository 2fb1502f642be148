package budgets

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Crowds are the upper pods of those namespaces in which a budget selects pods of ours: all of them, for a budget may
// select pods on other nodes, too. A namespace is watched while some virtual node needs it, once for all.
type Crowds struct {
	upper kubernetes.Interface

	mu     sync.Mutex
	spaces map[string]*crowd
}

// crowd is one namespace.
type crowd struct {
	pods   cache.SharedIndexInformer
	cancel context.CancelFunc
	users  map[string]cache.ResourceEventHandlerRegistration // by virtual node
}

// NewCrowds returns crowds of the upper cluster that watch nothing yet.
func NewCrowds(upper kubernetes.Interface) *Crowds {
	return &Crowds{upper: upper, spaces: map[string]*crowd{}}
}

// join has a namespace watched for a virtual node until it leaves; changed is called after every event.
func (c *Crowds) join(ctx context.Context, namespace, virtualNode string, changed func()) (*crowd, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	space := c.spaces[namespace]
	if space == nil {
		space = &crowd{
			pods:  coreinformers.NewPodInformer(c.upper, namespace, 0, cache.Indexers{}),
			users: map[string]cache.ResourceEventHandlerRegistration{},
		}
		if err := space.pods.SetTransform(onlyCounted); err != nil {
			return nil, err
		}
		run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // It outlives the virtual node that came first.
		space.cancel = cancel
		go space.pods.RunWithContext(run)
		c.spaces[namespace] = space
	}
	if space.users[virtualNode] == nil {
		registration, err := space.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
		})
		if err != nil {
			return nil, err
		}
		space.users[virtualNode] = registration
	}
	return space, nil
}

// leave ends the watch of a namespace for a virtual node.
func (c *Crowds) leave(namespace, virtualNode string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	space := c.spaces[namespace]
	if space == nil || space.users[virtualNode] == nil {
		return
	}
	_ = space.pods.RemoveEventHandler(space.users[virtualNode]) // It fails where the informer has ended.
	delete(space.users, virtualNode)
	if len(space.users) == 0 {
		space.cancel()
		delete(c.spaces, namespace)
	}
}

// onlyCounted keeps of a pod what a budget has to know.
func onlyCounted(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	kept := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			Labels: pod.Labels, DeletionTimestamp: pod.DeletionTimestamp,
		},
		Spec:   corev1.PodSpec{NodeName: pod.Spec.NodeName},
		Status: corev1.PodStatus{Phase: pod.Status.Phase},
	}
	if node := pod.Annotations[keys.LowerNode]; node != "" {
		kept.Annotations = map[string]string{keys.LowerNode: node}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			kept.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return kept, nil
}
