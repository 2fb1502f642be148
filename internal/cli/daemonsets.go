package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// strayDaemonSet is a DaemonSet whose controller makes pods for virtual nodes, which do not run there. Admission keeps those off that
// are written while it is there; this one is older.
type strayDaemonSet struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Patch     string `json:"patch"` // the command that keeps it off
}

// strayDaemonSets lists them. It looks at the virtual nodes that there are, or at one as they will be.
func strayDaemonSets(ctx context.Context, client kubernetes.Interface, nodes []corev1.Node) ([]strayDaemonSet, error) {
	if len(nodes) == 0 {
		nodes = []corev1.Node{{
			ObjectMeta: metav1.ObjectMeta{Name: "virtual", Labels: map[string]string{keys.Cluster: "virtual"}},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}}},
		}}
	}
	sets, err := client.AppsV1().DaemonSets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing DaemonSets: %w", err)
	}
	var stray []strayDaemonSet
	for i := range sets.Items {
		set := &sets.Items[i]
		if !slices.ContainsFunc(nodes, func(node corev1.Node) bool { return goesTo(set, &node) }) {
			continue
		}
		patch, err := keepOffPatch(set)
		if err != nil {
			return nil, err
		}
		stray = append(stray, strayDaemonSet{set.Namespace, set.Name,
			fmt.Sprintf("kubectl patch daemonset %s -n %s --type merge -p '%s'", set.Name, set.Namespace, patch)})
	}
	return stray, nil
}

// goesTo reports whether the DaemonSet controller would make a pod for a virtual node. Only its taints are looked at that stay: others
// come and go.
func goesTo(set *appsv1.DaemonSet, node *corev1.Node) bool {
	pod := &corev1.Pod{Spec: set.Spec.Template.Spec}
	fits, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
	stays := func(taint *corev1.Taint) bool { return taint.Key == keys.VirtualTaint }
	_, kept := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations, stays, false)
	return err == nil && fits && !kept
}

// keepOffPatch is the merge patch that adds to each term of the template's required node affinity that the node is not virtual.
func keepOffPatch(set *appsv1.DaemonSet) ([]byte, error) {
	isReal := corev1.NodeSelectorRequirement{Key: keys.Cluster, Operator: corev1.NodeSelectorOpDoesNotExist}
	terms := []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{isReal}}}
	if affinity := set.Spec.Template.Spec.Affinity; affinity != nil && affinity.NodeAffinity != nil {
		if required := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
			terms = required.DeepCopy().NodeSelectorTerms
			for i := range terms {
				if len(terms[i].MatchExpressions)+len(terms[i].MatchFields) == 0 {
					continue // It matches nothing, and has to go on with that.
				}
				terms[i].MatchExpressions = append(terms[i].MatchExpressions, isReal)
			}
		}
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"affinity": map[string]any{"nodeAffinity": map[string]any{
			"requiredDuringSchedulingIgnoredDuringExecution": corev1.NodeSelector{NodeSelectorTerms: terms},
		}},
	}}}})
	if err != nil {
		return nil, fmt.Errorf("writing the patch of DaemonSet %s/%s: %w", set.Namespace, set.Name, err)
	}
	return patch, nil
}
