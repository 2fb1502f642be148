package extender

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// upper watches the upper cluster's nodes, pods and namespaces and tells the pool what becomes of Tessera's pods.
type upper struct {
	extender   *Extender
	nodes      cache.SharedIndexInformer
	pods       cache.SharedIndexInformer
	namespaces cache.SharedIndexInformer
}

func newUpper(e *Extender) *upper {
	factory := informers.NewSharedInformerFactory(e.client, 0)
	u := &upper{
		extender:   e,
		nodes:      factory.Core().V1().Nodes().Informer(),
		pods:       factory.Core().V1().Pods().Informer(),
		namespaces: factory.Core().V1().Namespaces().Informer(),
	}
	_ = u.pods.AddIndexers(cache.Indexers{byNode: nodesOf}) // It fails once the informer runs.
	return u
}

func (u *upper) run(ctx context.Context) error {
	if err := u.nodes.SetTransform(trimUpperNode); err != nil {
		return fmt.Errorf("watching upper nodes: %w", err)
	}
	if err := u.pods.SetTransform(trimUpperPod); err != nil {
		return fmt.Errorf("watching upper pods: %w", err)
	}
	if err := u.watchNamespaces(); err != nil {
		return err
	}
	if _, err := u.pods.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initially bool) {
			if !initially {
				u.noteBind(nil, object.(*corev1.Pod))
			}
			u.observe(object.(*corev1.Pod), false)
		},
		UpdateFunc: func(old, object any) {
			was, pod := old.(*corev1.Pod), object.(*corev1.Pod)
			if was.UID != pod.UID {
				u.observe(was, true) // Deleted and made again under the same name while the watch was away.
				was = nil
			}
			u.noteBind(was, pod)
			u.observe(pod, false)
		},
		DeleteFunc: func(object any) {
			last, _ := tombstone.Unwrap(object)
			if pod, ok := last.(*corev1.Pod); ok {
				u.observe(pod, true)
			}
		},
	}); err != nil {
		return fmt.Errorf("watching upper pods: %w", err)
	}
	if _, err := u.nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { u.extender.touch() },
		UpdateFunc: func(old, object any) {
			was, node := old.(*corev1.Node), object.(*corev1.Node)
			if !maps.Equal(was.Labels, node.Labels) || !maps.Equal(was.Annotations, node.Annotations) ||
				!slices.Equal(was.Status.Conditions, node.Status.Conditions) { // Usable alone is kept, see trimUpperNode.
				u.extender.touch()
			}
		},
		DeleteFunc: func(any) { u.extender.touch() }, // It was a domain of spread over clusters.
	}); err != nil {
		return fmt.Errorf("watching upper nodes: %w", err)
	}
	go u.nodes.RunWithContext(ctx)
	go u.namespaces.RunWithContext(ctx)
	u.pods.RunWithContext(ctx)
	return nil
}

// watchNamespaces looks at waiting pods when the fence of some namespace changes.
func (u *upper) watchNamespaces() error {
	if err := u.namespaces.SetTransform(trimNamespace); err != nil {
		return fmt.Errorf("watching upper namespaces: %w", err)
	}
	if _, err := u.namespaces.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, object any) {
		if !maps.Equal(old.(*corev1.Namespace).Annotations, object.(*corev1.Namespace).Annotations) {
			u.extender.touch()
		}
	}}); err != nil {
		return fmt.Errorf("watching upper namespaces: %w", err)
	}
	return nil
}

func (u *upper) waitForSync(ctx context.Context) bool {
	return cache.WaitForCacheSync(ctx.Done(), u.nodes.HasSynced, u.pods.HasSynced, u.namespaces.HasSynced)
}

// observeAll lists the pods past every write that the API server has taken, and observes them.
func (u *upper) observeAll(ctx context.Context) error {
	options := metav1.ListOptions{Limit: 500}
	for {
		list, err := u.extender.client.CoreV1().Pods("").List(ctx, options)
		if err != nil {
			return fmt.Errorf("listing upper pods: %w", err)
		}
		for i := range list.Items {
			u.observe(&list.Items[i], false)
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return nil
		}
	}
}

// byNode indexes pods by the nodes that they are bound to or nominated for.
const byNode = "node"

func nodesOf(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	var names []string
	for _, name := range []string{pod.Spec.NodeName, pod.Status.NominatedNodeName} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// observeCached observes again every pod of the cache that a virtual node of the cluster has, or is to have.
func (u *upper) observeCached(cluster string) {
	for _, node := range u.virtualNodes() {
		if node.Labels[keys.Cluster] != cluster {
			continue
		}
		pods, _ := u.pods.GetIndexer().ByIndex(byNode, node.Name) // The index is there.
		for _, pod := range pods {
			u.observe(pod.(*corev1.Pod), false)
		}
	}
}

// uids returns a function that tells which UIDs the cache has now.
func (u *upper) uids() func(types.UID) bool {
	found := map[types.UID]bool{}
	for _, object := range u.pods.GetStore().List() {
		found[object.(*corev1.Pod).UID] = true
	}
	return func(uid types.UID) bool { return found[uid] }
}

// observe tells the pool of a pod, if it is one of Tessera's.
func (u *upper) observe(pod *corev1.Pod, gone bool) {
	if !translate.Marked(pod) {
		return
	}
	e := u.extender
	seen := snapshot.UpperPod{UID: pod.UID, Info: infoOf(pod), Finished: snapshot.Finished(pod), Gone: gone, Refused: refusedAt(pod)}
	node := u.virtualNode(pod.Spec.NodeName)
	switch {
	case pod.Spec.NodeName == "":
		node = u.virtualNode(pod.Status.NominatedNodeName)
	case node == nil && isReal(u.node(pod.Spec.NodeName)):
		seen.Finished = true // It runs on a real node: nothing of it comes to a lower cluster.
	}
	if node != nil && !gone && !seen.Finished {
		below, err := e.compile(pod, node)
		if err != nil {
			e.log.Error("Reading an upper pod failed, it has no hold", "namespace", pod.Namespace, "name", pod.Name, "err", err)
			return
		}
		seen.Pod = below
		if pod.Spec.NodeName != "" {
			seen.Cluster = node.Labels[keys.Cluster]
		} else {
			seen.Chosen = node.Labels[keys.Cluster]
		}
	}
	e.tell(pod, seen)
}

// tell gives the pool what was seen, and puts away what is over.
func (e *Extender) tell(pod *corev1.Pod, seen snapshot.UpperPod) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting[pod.UID] != nil && seen.Chosen != "" {
		return // The last answer about it was no: the nomination is older.
	}
	before, keptAway := e.place(pod.UID), e.pool.KeepsOthersAway(pod.UID)
	if e.pool.Observe(time.Now(), seen) {
		e.metrics.wrongGuess.Inc()
	}
	if refusedBelow(pod) {
		e.pool.Release(pod.UID) // It is not on its way. Should it get there one day, its lower pod counts.
	}
	e.touchIfMoved(pod.UID, before)
	if keptAway && !e.pool.KeepsOthersAway(pod.UID) {
		e.touch()
	}
	if seen.Gone || seen.Finished || pod.Spec.NodeName != "" {
		delete(e.waiting, pod.UID)
	}
	if seen.Gone {
		e.verdicts.Delete(pod.Namespace + "/" + pod.Name)
	}
}

// node returns an upper node, or nil if none of that name is known.
func (u *upper) node(name string) *corev1.Node {
	if object, ok, _ := u.nodes.GetStore().GetByKey(name); ok {
		return object.(*corev1.Node)
	}
	return nil
}

// virtualNode returns an upper node that is virtual, or nil.
func (u *upper) virtualNode(name string) *corev1.Node {
	if node := u.node(name); node != nil && isVirtual(node) {
		return node
	}
	return nil
}

// virtualNodes returns every virtual node in the order of names.
func (u *upper) virtualNodes() []*corev1.Node {
	byName := map[string]*corev1.Node{}
	for _, object := range u.nodes.GetStore().List() {
		if node := object.(*corev1.Node); isVirtual(node) {
			byName[node.Name] = node
		}
	}
	nodes := make([]*corev1.Node, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		nodes = append(nodes, byName[name])
	}
	return nodes
}

// isVirtual reports whether a node is virtual, by all that virtualnode writes: a kubelet may put a label on its own Node, which would
// then be given a cluster's pods.
func isVirtual(node *corev1.Node) bool {
	return node.Labels[keys.Cluster] == node.Name && hasVirtualTaint(node)
}

// isReal reports whether a node, which may be nil, has nothing of a virtual one. What is neither takes none of Tessera's pods.
func isReal(node *corev1.Node) bool {
	return node != nil && node.Labels[keys.Cluster] == "" && !hasVirtualTaint(node)
}

func hasVirtualTaint(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == keys.VirtualTaint })
}

// rulesOf is how a virtual node says that pods are translated for it, and which ones are refused below.
func rulesOf(node *corev1.Node) string {
	return node.Annotations[keys.Rules] + node.Annotations[keys.Refused]
}

// refusedBelow reports whether the lower cluster does not take a pod that is bound, so that there is no lower pod of it.
func refusedBelow(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == keys.LowerPlaced && c.Status == corev1.ConditionFalse {
			reason := keys.Reason(c.Reason)
			return reason != keys.Unschedulable && reason != keys.NotScheduled && reason != keys.Gated
		}
	}
	return false
}

func infoOf(pod *corev1.Pod) snapshot.Info {
	return snapshot.Info{Namespace: pod.Namespace, Name: pod.Name, Owner: snapshot.OwnerOf(pod)}
}

func refusedAt(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// trimUpperNode keeps names, labels, the taint of virtual nodes, how pods are translated for the node, and why it is not usable.
func trimUpperNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Node{}
	trimmed.Name, trimmed.Labels, trimmed.ResourceVersion, trimmed.UID = node.Name, node.Labels, node.ResourceVersion, node.UID
	for _, key := range []string{keys.Rules, keys.Refused, keys.LowerUID} {
		if text, ok := node.Annotations[key]; ok {
			metav1.SetMetaDataAnnotation(&trimmed.ObjectMeta, key, text)
		}
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == keys.VirtualTaint {
			trimmed.Spec.Taints = []corev1.Taint{{Key: taint.Key, Effect: taint.Effect}}
		}
	}
	for _, c := range node.Status.Conditions {
		if c.Type == keys.Usable {
			trimmed.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status, Reason: c.Reason}}
		}
	}
	return trimmed, nil
}

// trimUpperPod keeps Tessera's pods without what weighs most, and of all others only their identity and their node.
func trimUpperPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	if translate.Marked(pod) {
		pod.ManagedFields = nil
		return pod, nil
	}
	trimmed := &corev1.Pod{}
	trimmed.Name, trimmed.Namespace, trimmed.UID, trimmed.ResourceVersion = pod.Name, pod.Namespace, pod.UID, pod.ResourceVersion
	trimmed.Spec.NodeName = pod.Spec.NodeName
	return trimmed, nil
}
