package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tessera-k8s/tessera/internal/keys"
)

func virtualNode(name string, annotations map[string]string, conditions ...corev1.NodeCondition) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "u", Labels: map[string]string{keys.Cluster: name}, Annotations: annotations},
		Status:     corev1.NodeStatus{Conditions: conditions},
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	real1 := virtualNode("real", map[string]string{keys.FoundUID: "b"})
	real1.Labels = nil
	client := fake.NewClientset(virtualNode("changed", map[string]string{keys.LowerUID: "a", keys.FoundUID: "b"}),
		virtualNode("same", map[string]string{keys.LowerUID: "a"}), virtualNode("taken", map[string]string{keys.FoundHolder: "x"}), real1)
	for name, want := range map[string]string{"changed": "", "taken": "", "same": "nothing to accept", "real": "no virtual node", "none": "no node none"} {
		found, err := accept(t.Context(), client, name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", name, found, err)
		}
	}
	node, err := client.CoreV1().Nodes().Get(t.Context(), "changed", metav1.GetOptions{})
	if err != nil || node.Annotations[keys.AcceptUID] != "b" || node.Annotations[keys.LowerUID] != "a" {
		t.Errorf("annotations %v, %v", node.Annotations, err)
	}
	node, err = client.CoreV1().Nodes().Get(t.Context(), "taken", metav1.GetOptions{})
	if err != nil || node.Annotations[keys.AcceptHolder] != "x" || node.Annotations[keys.AcceptUID] != "" {
		t.Errorf("annotations %v, %v", node.Annotations, err)
	}
}

func TestPrintClusters(t *testing.T) {
	t.Parallel()
	nodes := []corev1.Node{
		*virtualNode("berlin", map[string]string{keys.LowerUID: "a"}, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
			corev1.NodeCondition{Type: keys.Usable, Status: corev1.ConditionFalse, Reason: "CredentialsExpired"},
			corev1.NodeCondition{Type: keys.CredentialsEnding, Status: corev1.ConditionTrue, Reason: "TokenEnds"}),
		*virtualNode("paris", nil),
	}
	var out strings.Builder
	if err := printClusters(&out, nodes, "table"); err != nil {
		t.Fatal(err)
	}
	want := "CLUSTER   READY     USABLE    REASON               TOKEN       UID BELOW\n" +
		"berlin    True      False     CredentialsExpired   TokenEnds   a\n" +
		"paris     Unknown   Unknown                                    \n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
