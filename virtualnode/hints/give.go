package hints

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// Mode is how a pod is told the node that Ask named; Off where it named none.
func (g Giver) Mode(node string) Mode {
	if node == "" {
		return Off
	}
	return g.Hints.modes.of(g.Cluster, g.Hints.now())
}

// Apply puts the hint into a lower pod that is to be created: the node itself, or our gate if it can only be told to a pod that
// exists. It returns the mode in which the pod is told.
func (g Giver) Apply(lower *corev1.Pod, node string) Mode {
	mode := g.Mode(node)
	if mode == Nominated {
		lower.Spec.SchedulingGates = append(lower.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: keys.HintGate})
	}
	addToAffinity(&lower.Spec, mode, node)
	annotate(lower, node)
	return mode
}

// Give tells a gated pod's node to the lower scheduler and lets the pod go. Where the status may not be patched
// the hint goes into the affinity, which may still be changed for as long as the pod is gated.
//
// An interruption leaves a gated pod, to be given its hint anew. So does a pod that has changed meanwhile: ungated is false then.
//
// whole: lower is the pod as the API server has just answered, not one out of a cache that leaves fields out. It is written back as a
// whole then, which costs an API server a third less than two patches; unless that may have fields that this program does not know.
func (g Giver) Give(ctx context.Context, upper, lower *corev1.Pod, node string, whole bool) (ungated bool, err error) {
	mode, whole := g.Mode(node), whole && g.Known
	if mode == Nominated {
		nominated, err := g.nominate(ctx, lower, node, whole)
		switch {
		case err == nil:
			lower = nominated
		case pair.Refused(err):
			mode = Preferred
		default:
			return false, pair.IgnoreGone(fmt.Errorf("nominating node: %w", err))
		}
	}
	if whole && mode == Nominated && g.ungateWhole(ctx, lower, node) == nil {
		g.Given(mode)
		return true, nil
	}
	err = g.ungate(ctx, lower, mode, node)
	if pair.Refused(err) && mode != Off {
		g.Log.Warn("The lower cluster takes no hint, the pod goes without", "pod", pair.KeyOf(upper), "mode", mode, "err", err)
		g.Count(mode, "refused")
		mode = Off
		err = g.ungate(ctx, lower, mode, "")
	}
	if err != nil {
		return false, pair.IgnoreGone(fmt.Errorf("taking the gate off: %w", err))
	}
	g.Given(mode)
	return true, nil
}

// Given counts a hint that the lower scheduler has been told.
func (g Giver) Given(mode Mode) {
	if mode != Off {
		g.Count(mode, "given")
	}
}

// nominate writes the node into the pod's status and returns the pod as it is then. The scheduler tries that node
// first and takes it if the pod fits, whatever its preferences say; else it goes on as usual.
func (g Giver) nominate(ctx context.Context, lower *corev1.Pod, node string, whole bool) (nominated *corev1.Pod, err error) {
	pods := g.Lower.Pods(lower.Namespace)
	if whole {
		next := *lower
		next.ManagedFields, next.Status.NominatedNodeName = nil, node
		nominated, err = pods.UpdateStatus(ctx, &next, metav1.UpdateOptions{})
	}
	if !whole || err != nil { // It has changed meanwhile, or the account may only patch.
		patch := fmt.Appendf(nil, `{"metadata":{"uid":%q},"status":{"nominatedNodeName":%q}}`, lower.UID, node)
		nominated, err = pods.Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	switch {
	case err == nil && g.Hints.modes.statusTaken(g.Cluster):
		g.Log.Info("The lower cluster lets the status of pods be patched again, hints are nominated")
	case pair.Refused(err):
		g.Count(Nominated, "refused")
		// What is invalid may be invalid in this one pod; what is forbidden is so in all of them.
		if apierrors.IsForbidden(err) && g.Hints.modes.statusRefused(g.Cluster, g.Hints.now()) {
			g.Log.Warn("The lower cluster lets no status of pods be patched, hints are preferred affinity instead",
				"again", nominateAgain, "err", err)
		}
	}
	return nominated, err
}

// ungateWhole takes our gate off a pod that the API server has just answered. Its error says that ungate is to try.
func (g Giver) ungateWhole(ctx context.Context, lower *corev1.Pod, node string) error {
	next := lower.DeepCopy()
	next.ManagedFields = nil
	next.Spec.SchedulingGates = slices.DeleteFunc(next.Spec.SchedulingGates,
		func(gate corev1.PodSchedulingGate) bool { return gate.Name == keys.HintGate })
	annotate(next, node)
	_, err := g.Lower.Pods(lower.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	return err
}

// ungate takes our gate off, leaves those of others, and puts the hint into the affinity if that is the mode.
func (g Giver) ungate(ctx context.Context, lower *corev1.Pod, mode Mode, node string) error {
	type change map[string]any
	meta := change{"uid": lower.UID, "resourceVersion": lower.ResourceVersion} // Lists are replaced, so it is for what was read.
	if node != "" {
		meta["annotations"] = change{keys.HintNode: node}
	}
	spec := change{"schedulingGates": []change{{"$patch": "delete", "name": keys.HintGate}}}
	if mode == Preferred || mode == Required {
		wanted := corev1.PodSpec{Affinity: lower.Spec.Affinity}
		addToAffinity(&wanted, mode, node)
		spec["affinity"] = wanted.Affinity
	}
	patch, err := json.Marshal(change{"metadata": meta, "spec": spec})
	if err != nil {
		return err
	}
	_, err = g.Lower.Pods(lower.Namespace).Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// annotate leaves the hint on the lower pod. An extender that has just started reads there where the pod is going, whatever
// the mode, and before the status can say so.
func annotate(lower *corev1.Pod, node string) {
	if node != "" {
		metav1.SetMetaDataAnnotation(&lower.ObjectMeta, keys.HintNode, node)
	}
}
