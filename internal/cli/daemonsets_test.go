package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// DaemonSets that are older than the first virtual node are found before it is there and afterwards, and the patch that is printed, once
// applied, is the end of it.
func TestStrayDaemonSets(t *testing.T) {
	t.Parallel()
	all := corev1.Toleration{Operator: corev1.TolerationOpExists}
	onDisk := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpDoesNotExist}}}
	set := func(name string, terms []corev1.NodeSelectorTerm, tolerations ...corev1.Toleration) *appsv1.DaemonSet {
		s := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}}
		s.Spec.Template.Spec.Tolerations = tolerations
		if terms != nil {
			s.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
			}}
		}
		return s
	}
	linux := set("selected", nil, all)
	linux.Spec.Template.Spec.NodeSelector = map[string]string{corev1.LabelOSStable: "linux"} // No virtual node here has it.
	kept := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: keys.Cluster, Operator: corev1.NodeSelectorOpDoesNotExist}}}
	client := fake.NewClientset(
		set("agent", nil, all), set("cni", []corev1.NodeSelectorTerm{onDisk, {}}, all), set("plain", nil), linux,
		set("kept", []corev1.NodeSelectorTerm{kept}, all), set("gpu", nil, corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists}),
		set("ours", nil, corev1.Toleration{Key: keys.VirtualTaint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}),
	)
	node := corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "v", Labels: map[string]string{keys.Cluster: "v"}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}, {Key: keys.UnusableTaint, Effect: corev1.TaintEffectNoSchedule},
		}},
	}
	for _, nodes := range [][]corev1.Node{nil, {node}} {
		stray, err := strayDaemonSets(t.Context(), client, nodes)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range stray {
			names = append(names, s.Name)
		}
		if diff := cmp.Diff([]string{"agent", "cni", "ours"}, names); diff != "" {
			t.Errorf("%d virtual nodes:\n%s", len(nodes), diff)
		}
	}
	stray, _ := strayDaemonSets(t.Context(), client, nil)
	var out bytes.Buffer
	if err := printChecks(&out, findings{DaemonSets: stray}, ""); !errors.Is(err, errCheck) || !strings.Contains(out.String(), stray[0].Patch) {
		t.Errorf("printed %q, %v", out.String(), err)
	}
	for _, s := range stray {
		_, patch, _ := strings.Cut(s.Patch, " -p ")
		patch = strings.Trim(patch, "'")
		if !json.Valid([]byte(patch)) {
			t.Fatalf("no JSON: %s", patch)
		}
		if _, err := client.AppsV1().DaemonSets(s.Namespace).Patch(t.Context(), s.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := strayDaemonSets(t.Context(), client, []corev1.Node{node}); err != nil || len(left) != 0 {
		t.Errorf("after the patches: %v, %v", left, err)
	}
}
