package snapshot

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A label that classes differ in while a cluster is small is given up when each node of many turns out to have a value of its own; at no
// moment is a node taken for another one.
func TestLabelsThatAreGivenUp(t *testing.T) {
	t.Parallel()
	pool, rows := NewPool(), NewRows("a")
	now := time.Unix(1000, 0)
	selects := func(serial string) *Pod {
		pod := benchPod("web", "1")
		pod.Spec.NodeSelector = map[string]string{"serial": serial}
		return NewPod(pod)
	}
	for n := range 600 {
		name := fmt.Sprintf("n%03d", n)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"serial": name}}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		node.Status.Allocatable = corev1.ResourceList{
			"cpu": *resource.NewQuantity(int64(2+n/100), resource.DecimalSI), "memory": resource.MustParse("16Gi"), "pods": resource.MustParse("110"),
		}
		rows.SetNode(node)
		pool.Apply(now, rows.Fetch())
		if n%20 != 0 {
			continue
		}
		for _, serial := range []string{"n000", name, "none"} {
			v := pool.Judge("a", selects(serial), "")
			if want := serial; serial == "none" && v.Fits || serial != "none" && v.Node != want {
				t.Fatalf("with %d nodes %s fits: %t, on %q, %s", n+1, serial, v.Fits, v.Node, v.Reason)
			}
		}
	}
	if classes := len(pool.cells["a"].classes); classes > 4*mostClasses {
		t.Errorf("%d classes", classes)
	}
}
