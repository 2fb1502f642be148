package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/internal/exact"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// counts is what the progress line shows, and whose stillness ends a run.
type counts struct{ asked, running, pendingAbove, stuckBelow int }

// sample is what all API servers list at one moment.
type sample struct {
	counts
	pending []*corev1.Pod // bound to no node above
	stuck   []string      // names of pods that the lower scheduler found no node for
	lower   []lowerState
	cpuUsed float64
}

type lowerState struct {
	virtual *corev1.Node // the virtual node above
	nodes   []*corev1.Node
	pods    []*corev1.Pod
}

// create creates a pod. A default ServiceAccount that the new namespace does not have yet is waited for.
func (r *run) create(ctx context.Context, pod *corev1.Pod) error {
	for range 100 {
		_, err := r.upper.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
		if err == nil {
			return nil
		}
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("creating pod %s: %w", pod.Name, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("creating pods: the namespace got no default ServiceAccount")
}

func (r *run) sample(ctx context.Context) (*sample, error) {
	s := &sample{}
	above, err := r.upper.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing upper pods: %w", err)
	}
	s.asked = len(above.Items)
	for i := range above.Items {
		pod := &above.Items[i]
		switch {
		case pod.Spec.NodeName == "":
			s.pendingAbove++
			s.pending = append(s.pending, pod)
		case pod.Status.Phase == corev1.PodRunning:
			s.running++
			requests := snapshot.Requests(pod)
			s.cpuUsed += float64(requests.MilliCPU) / 1000
		}
	}
	for k := range r.lower {
		if err := r.sampleLower(ctx, s, k); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (r *run) sampleLower(ctx context.Context, s *sample, k int) error {
	name := r.lab.LowerName(k + 1)
	virtual, err := r.upper.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("getting virtual node %s: %w", name, err)
	}
	state, err := list(ctx, r.lower[k])
	if err != nil {
		return fmt.Errorf("listing %s: %w", name, err)
	}
	state.virtual = virtual
	for _, pod := range state.pods {
		if pod.Namespace == namespace && unschedulable(pod) {
			s.stuckBelow++
			s.stuck = append(s.stuck, pod.Name)
		}
	}
	s.lower = append(s.lower, state)
	return nil
}

func list(ctx context.Context, client kubernetes.Interface) (lowerState, error) {
	var state lowerState
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return state, err
	}
	pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return state, err
	}
	for i := range nodes.Items {
		state.nodes = append(state.nodes, &nodes.Items[i])
	}
	for i := range pods.Items {
		state.pods = append(state.pods, &pods.Items[i])
	}
	return state, nil
}

func unschedulable(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
	})
}

// fill copies the figures of the end state.
func (s *sample) fill(r *Result) {
	r.Asked, r.Running, r.StuckBelow, r.CPUUsed = s.asked, s.running, s.stuckBelow, s.cpuUsed
	for _, state := range s.lower {
		r.CPUFree += state.free()
	}
}

// free sums what is free on the lower nodes, in cores.
func (l *lowerState) free() float64 {
	byNode := map[string][]*snapshot.LowerPod{}
	for _, pod := range l.pods {
		byNode[pod.Spec.NodeName] = append(byNode[pod.Spec.NodeName], snapshot.NewLowerPod(pod, ""))
	}
	var milli int64
	for _, node := range l.nodes {
		room := snapshot.NewNode(node, byNode[node.Name]).Free()
		milli += room.MilliCPU
	}
	return float64(milli) / 1000
}

// refusedWithRoom counts the pods pending above for which some lower node would pass all real filter plugins.
func (s *sample) refusedWithRoom(ctx context.Context) (int, error) {
	fits, err := s.withRoom(ctx)
	return len(fits), err
}

// withRoom names the pending pods that the oracle finds a node for, holds ignored.
func (s *sample) withRoom(ctx context.Context) ([]string, error) {
	var names []string
	oracles := make([]*exact.Cluster, len(s.lower))
	for _, pod := range s.pending {
		for k := range s.lower {
			if oracles[k] == nil {
				oracle, err := exact.NewCluster(exact.Objects{Nodes: s.lower[k].nodes, Pods: s.lower[k].pods})
				if err != nil {
					return nil, err
				}
				oracles[k] = oracle
			}
			fits, err := s.asks(ctx, oracles[k], pod, s.lower[k].virtual)
			if err != nil {
				return nil, err
			}
			if fits {
				names = append(names, pod.Name)
				break
			}
		}
	}
	return names, nil
}

func (s *sample) asks(ctx context.Context, oracle *exact.Cluster, pod *corev1.Pod, virtual *corev1.Node) (bool, error) {
	below, err := translate.LowerPod(pod, translate.Target{VirtualNode: virtual.Name, Labels: labels.Set(virtual.Labels)})
	if err != nil {
		return false, err
	}
	fits, _, err := oracle.Filter(ctx, below)
	if err != nil {
		return false, fmt.Errorf("asking the oracle about %s: %w", pod.Name, err)
	}
	return len(fits) > 0, nil
}
