package extender

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// bindTimeout bounds each of a bind's calls to the API server. A bind goes on when kube-scheduler has hung up, after its
// httpTimeout: it counts all the same, and the scheduler's next attempt finds it done.
const bindTimeout = 3 * time.Second

// errUnknown: a call got no answer, nor did the question what became of it.
var errUnknown = errors.New("the API server did not say whether the pod is bound")

// bind is strict mode, `bindVerb: bind` in the scheduler's extender entry: the extender judges the pod once more, makes
// its hold firm and writes the Binding itself, with the hint among its annotations, which the API server merges into
// the pod. The result's error is a text of Filter if the lower cluster does not take the pod now.
//
// It is the only mode whose promise holds over a fail-over of the extender without an assumption on the scheduler's pace.
// In the others the scheduler may turn an answer of the process that died into a bind that its successor does not know
// of, and `settle` assumes how long that takes. Here no answer becomes a bind before the process that lives has judged
// the pod on its own view; until that is complete it refuses.
func (e *Extender) bind(args *extenderv1.ExtenderBindingArgs) *extenderv1.ExtenderBindingResult {
	if err := e.bindPod(args); err != nil {
		e.log.Warn("Binding a pod failed", "namespace", args.PodNamespace, "name", args.PodName, "node", args.Node, "err", err)
		return &extenderv1.ExtenderBindingResult{Error: err.Error()}
	}
	return &extenderv1.ExtenderBindingResult{}
}

func (e *Extender) bindPod(args *extenderv1.ExtenderBindingArgs) error {
	pod, err := e.podToBind(args)
	switch {
	case err != nil:
		return err
	case pod.Spec.NodeName == args.Node:
		return nil // The scheduler asks again because an earlier answer came too late.
	case pod.Spec.NodeName != "":
		return fmt.Errorf("binding to %s: the pod is bound to %s", args.Node, pod.Spec.NodeName)
	}
	room, err := e.takeRoom(time.Now(), pod, args.Node)
	if err != nil {
		return err
	}
	err = e.writeBinding(pod, args.Node, room.hint)
	e.settleRoom(pod, room, err)
	return err
}

// podToBind returns the pod of the cache, or of the API server where the cache is behind the scheduler's.
func (e *Extender) podToBind(args *extenderv1.ExtenderBindingArgs) (*corev1.Pod, error) {
	if object, ok, _ := e.upper.pods.GetStore().GetByKey(args.PodNamespace + "/" + args.PodName); ok {
		if pod := object.(*corev1.Pod); pod.UID == args.PodUID && translate.Marked(pod) {
			return pod, nil
		}
	}
	pod, err := e.readPod(args.PodNamespace, args.PodName)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the pod to bind: %w", err)
	case pod.UID != args.PodUID:
		return nil, fmt.Errorf("reading the pod to bind: its UID is %q, not %q", pod.UID, args.PodUID)
	case !translate.Marked(pod):
		return nil, fmt.Errorf("reading the pod to bind: it is not one of Tessera's, as it does not ask for %s", keys.PodResource)
	}
	return pod, nil
}

func (e *Extender) readPod(namespace, name string) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bindTimeout)
	defer cancel()
	return e.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
}

// room is what a bind has taken, and what was there before.
type room struct {
	real         bool           // the node is no virtual one
	hint         string         // the lower node; empty if none is known
	mine, before *snapshot.Hold // mine is nil where nothing could be held
}

// takeRoom judges the pod once more and makes its hold firm. A pod with claims is past PreBind, so they are bound for this
// node and the pod can go nowhere else: it gets a hold in any case, if need be one without room.
func (e *Extender) takeRoom(now time.Time, pod *corev1.Pod, name string) (room, error) {
	node := e.upper.node(name)
	switch {
	case isReal(node):
		return room{real: true}, nil
	case (node == nil || !isVirtual(node)) && !hasClaims(pod):
		return room{}, errors.New(text(keys.NotSynced))
	case node == nil || !isVirtual(node):
		return room{}, nil
	}
	nodes := []*corev1.Node{node}
	pods := e.compileAll(pod, nodes)
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.touchIfMoved(pod.UID, e.place(pod.UID))
	v := e.judge(now, pod, nodes, pods)[0]
	switch {
	case v.Fits:
	case !hasClaims(pod):
		if !e.firm(pod.UID) {
			e.pool.Release(pod.UID)
		}
		return room{}, errors.New(text(v.Reason))
	case v.pod == nil: // Nobody can read what it asks for.
		return room{}, nil
	default:
		v.Verdict = e.anyRoom(v, pod)
	}
	return e.hold(now, pod, v), nil
}

// anyRoom is where a pod that can go nowhere else is held: where its hold is, else on a node that might take it. The caller
// holds e.mu.
func (e *Extender) anyRoom(v verdict, pod *corev1.Pod) snapshot.Verdict {
	before := e.pool.Hold(pod.UID)
	if before != nil && before.Cluster == v.Cluster && before.Node != "" {
		return snapshot.Verdict{Cluster: v.Cluster, Node: before.Node}
	}
	return e.pool.JudgeFor(snapshot.OwnerOf(pod), v.Cluster, v.pod, pod.UID)
}

// hold makes the pod's hold firm where the verdict says: neither Filter nor the clock moves it while the Binding is
// written, and the event of the bind finds it as it would make it. The caller holds e.mu.
func (e *Extender) hold(now time.Time, pod *corev1.Pod, v verdict) room {
	before := e.pool.Hold(pod.UID)
	if before != nil && before.Cluster != v.Cluster && !e.firm(pod.UID) {
		e.metrics.wrongGuess.Inc()
	}
	mine := e.pool.Offer(now, pod.UID, infoOf(pod), v.pod, v.Verdict)
	mine.State = snapshot.Bound
	delete(e.waiting, pod.UID)
	return room{hint: mine.Node, mine: mine, before: before}
}

// writeBinding binds the pod. After an error it looks: what counts is what the API server has done.
func (e *Extender) writeBinding(pod *corev1.Pod, node, hint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), bindTimeout)
	defer cancel()
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
	if hint != "" {
		binding.Annotations = map[string]string{keys.HintNode: hint}
	}
	err := e.client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	if err == nil {
		return nil
	}
	found, readErr := e.readPod(pod.Namespace, pod.Name)
	switch {
	case readErr == nil && found.UID == pod.UID && found.Spec.NodeName == node:
		return nil
	case readErr == nil || apierrors.IsNotFound(readErr):
		return fmt.Errorf("binding to %s: %w", node, err)
	default:
		return fmt.Errorf("binding to %s: %w: %w", node, errUnknown, err)
	}
}

// settleRoom puts the hold back to what it was if the pod is not bound. Where nobody knows it stays firm: the pod's events
// or the scheduler's next attempt will tell.
func (e *Extender) settleRoom(pod *corev1.Pod, r room, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.touchIfMoved(pod.UID, e.place(pod.UID))
	switch {
	case err == nil && r.real: // What was held on a virtual node is free.
		e.pool.Release(pod.UID)
	case err == nil || r.mine == nil || errors.Is(err, errUnknown):
	default:
		r.mine.State = snapshot.Offered // For a later bind of this pod as well, that has taken it over.
		if e.pool.Hold(pod.UID) != r.mine {
			return
		}
		e.pool.Release(pod.UID)
		if r.before != nil {
			e.pool.Restore(r.before)
		}
	}
}

// hasClaims reports whether volumes of the pod are bound before the pod is, so that they decide where it runs.
func hasClaims(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil || v.Ephemeral != nil
	})
}
