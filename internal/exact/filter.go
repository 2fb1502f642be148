package exact

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
)

// Filter asks which nodes can take pod, the pod as the lower cluster has it: all nodes, or the candidates alone if any
// are named. It returns the names of those that can, sorted or in the order of the candidates, and for every other one
// why not. What goes wrong inside a plugin, such as a claim that does not exist, is a refusal by that plugin; an error
// means that there is no answer for any node, for instance because ctx has ended.
func (c *Cluster) Filter(
	ctx context.Context, pod *corev1.Pod, candidates ...string,
) (fits []string, refused map[string]Refusal, err error) {
	defer recovered(&err, pod)
	q, err := c.ask(ctx, pod)
	if err != nil {
		return nil, nil, err
	}
	if len(candidates) == 0 {
		candidates = c.names
	}
	refused = make(map[string]Refusal)
	for _, name := range candidates {
		if refusal := q.node(quiet(ctx), name); refusal != nil {
			refused[name] = *refusal
			continue
		}
		fits = append(fits, name)
	}
	if err := intime(ctx, pod); err != nil {
		return nil, nil, err
	}
	if q.failure != nil { // kube-scheduler gives the whole attempt up then.
		for _, name := range fits {
			refused[name] = *q.failure
		}
		fits = nil
	}
	return fits, refused, nil
}

// Hold keeps room for a pod that is on its way to node: the room itself, and the devices and volumes that the plugins
// would now give it there, so that they are not promised twice. A pod that node would now refuse is charged for its room
// all the same. After an error the cluster may hold a part of it, and is to be dropped.
func (c *Cluster) Hold(ctx context.Context, pod *corev1.Pod, node string) (err error) {
	defer recovered(&err, pod)
	q, err := c.ask(ctx, pod)
	if err != nil {
		return err
	}
	refusal := q.node(quiet(ctx), node)
	if err := intime(ctx, pod); err != nil {
		return err
	}
	if refusal == nil {
		if status := c.fw.RunReservePluginsReserve(quiet(ctx), q.state, pod, node); !status.IsSuccess() {
			return fmt.Errorf("reserving devices and volumes of pod %s/%s on node %s: %w", pod.Namespace, pod.Name, node, status.AsError())
		}
	}
	bound := pod.DeepCopy()
	bound.Spec.NodeName = node
	return c.AddPod(bound)
}

// intime is an error if the context has ended: some plugins answer with a refusal then, and others with half the truth.
func intime(ctx context.Context, pod *corev1.Pod) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("asking the scheduler's plugins about pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// recovered turns a panic of the scheduler's code into an error: one odd object must not end the process. It is no help
// against a panic in a goroutine that a plugin starts to count the pods of many nodes.
func recovered(err *error, pod *corev1.Pod) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("asking the scheduler's plugins about pod %s/%s: panic: %v", pod.Namespace, pod.Name, cause)
	}
}

// question is one pod on its way through the plugins.
type question struct {
	cluster  *Cluster
	pod      *corev1.Pod
	state    fwk.CycleState
	everyone *Refusal         // of every node
	narrowed sets.Set[string] // the only nodes to look at; nil for all
	others   Refusal          // of the nodes that are not in narrowed
	failure  *Refusal         // of the plugin that could not decide on some node
}

// ask brings the snapshot up to date and runs what the plugins compute once a pod.
func (c *Cluster) ask(ctx context.Context, pod *corev1.Pod) (*question, error) {
	if c.stale {
		if err := c.cache.UpdateSnapshot(klog.Logger{}, c.snapshot); err != nil {
			return nil, fmt.Errorf("updating scheduler snapshot: %w", err)
		}
		c.stale = false
	}
	pod = c.version.Asking(pod)
	q := &question{cluster: c, pod: pod, state: framework.NewCycleState()}
	narrowed, status, by := c.fw.RunPreFilterPlugins(quiet(ctx), q.state, pod)
	switch {
	case !status.IsSuccess():
		q.everyone = newRefusal(status)
		if q.everyone.Plugin == "" && by.Len() > 0 { // Several plugins named nodes, and no node is named by all.
			q.everyone.Plugin = sets.List(by)[0]
		}
	case !narrowed.AllNodes():
		q.narrowed = narrowed.NodeNames
		q.others = Refusal{Plugin: sets.List(by)[0], Text: "the pod names other nodes"}
	}
	return q, nil
}

// node returns why the node of this name does not take the pod, or nil.
func (q *question) node(ctx context.Context, name string) *Refusal {
	if q.everyone != nil {
		return q.everyone
	}
	if q.narrowed != nil && !q.narrowed.Has(name) {
		return &q.others
	}
	info, err := q.cluster.snapshot.Get(name)
	if err != nil {
		return &Refusal{Plugin: names.NodeName, Text: "no such node"}
	}
	status := q.cluster.fw.RunFilterPlugins(ctx, q.state, q.pod, info)
	if status.IsSuccess() {
		return nil
	}
	refusal := newRefusal(status)
	if !status.IsRejected() {
		q.failure = refusal
	}
	return refusal
}
