package rebalance

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	helper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// watch keeps the upper pods that are bound and wait, and the virtual nodes. The API server picks them out, so the many that
// run are neither sent nor stored.
type watch struct {
	informer cache.SharedIndexInformer
	nodes    cache.SharedIndexInformer

	mu   sync.Mutex
	seen seen
}

// seen is when this process first saw things.
type seen struct {
	unplaced map[types.UID]time.Time // pods kept from lower nodes
	fresh    map[string]time.Time    // virtual nodes of whose clusters there are news
}

func newWatch(client kubernetes.Interface) *watch {
	waiting := fields.AndSelectors(
		fields.OneTermEqualSelector("status.phase", string(corev1.PodPending)),
		fields.OneTermNotEqualSelector("spec.nodeName", ""),
	).String()
	pods := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTransform(onlyJudged),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.FieldSelector = waiting }))
	nodes := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTransform(onlySeen),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = keys.Cluster }))
	return &watch{informer: pods.Core().V1().Pods().Informer(), nodes: nodes.Core().V1().Nodes().Informer()}
}

// onlySeen keeps what is read of a virtual node.
func onlySeen(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Labels: node.Labels},
		Spec:       corev1.NodeSpec{Taints: node.Spec.Taints, Unschedulable: node.Spec.Unschedulable},
		Status:     corev1.NodeStatus{Conditions: node.Status.Conditions},
	}, nil
}

// takes reports whether the scheduler would send a pod to a virtual node, as far as selectors, taints and cordons go.
func (w *watch) takes(name string, pod *corev1.Pod) bool {
	object, known, _ := w.nodes.GetStore().GetByKey(name) // A cache never fails.
	if !known {
		return false
	}
	node := object.(*corev1.Node)
	matches, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
	_, repelled := helper.FindMatchingUntoleratedTaint(logr.Discard(), node.Spec.Taints, pod.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}, false)
	return err == nil && matches && !repelled && !node.Spec.Unschedulable
}

// run watches until ctx ends. An API server that cannot be reached is tried again for ever.
func (w *watch) run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { w.informer.RunWithContext(ctx) })
	group.Go(func() { w.nodes.RunWithContext(ctx) })
	group.Wait()
	return nil
}

// wait returns once the pods are known, or false when ctx has ended.
func (w *watch) wait(ctx context.Context) bool {
	return cache.WaitForCacheSync(ctx.Done(), w.informer.HasSynced, w.nodes.HasSynced)
}

func (w *watch) ready() error {
	if !w.informer.HasSynced() || !w.nodes.HasSynced() {
		return errNotSynced
	}
	return nil
}

// pods returns the pods as they are now.
func (w *watch) pods() []Pod {
	var all []Pod
	for _, object := range w.informer.GetStore().List() {
		if pod, ok := newPod(object.(*corev1.Pod)); ok {
			all = append(all, pod)
		}
	}
	var fresh []string
	for _, object := range w.nodes.GetStore().List() {
		if node := object.(*corev1.Node); hasNews(node) {
			fresh = append(fresh, node.Name)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.look(all, fresh, time.Now())
	return all
}

// look fills in since when the pods wait, and forgets what is not there any more. fresh are the nodes with news.
func (s *seen) look(pods []Pod, fresh []string, now time.Time) {
	nodes, waiting := map[string]time.Time{}, map[types.UID]time.Time{}
	for _, name := range fresh {
		nodes[name] = earlier(s.fresh[name], now)
	}
	for i := range pods {
		pod := &pods[i]
		since, known := nodes[pod.Cluster]
		pod.Stale = !known
		if pod.Unplaced == "" {
			continue
		}
		waiting[pod.UID] = earlier(s.unplaced[pod.UID], now)
		pod.Since = waiting[pod.UID]
		if since.After(pod.Since) {
			pod.Since = since
		}
	}
	s.fresh, s.unplaced = nodes, waiting
}

func earlier(seen, now time.Time) time.Time {
	if seen.IsZero() {
		return now
	}
	return seen
}

// hasNews reports whether what is shown of the pods of a virtual node is new: its cluster answers, and lets itself be watched.
func hasNews(node *corev1.Node) bool {
	is := func(kind corev1.NodeConditionType) *corev1.NodeCondition {
		at := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == kind })
		if at < 0 {
			return nil
		}
		return &node.Status.Conditions[at]
	}
	ready, usable := is(corev1.NodeReady), is(keys.Usable)
	switch {
	case ready == nil || ready.Status != corev1.ConditionTrue:
		return false
	case usable == nil || usable.Status == corev1.ConditionTrue:
		return true
	default:
		return usable.Reason == keys.NoUsableNodes // That is news.
	}
}
