package virtualnode_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Every write of a Node has kube-scheduler try all refused pods again. Pods of others that come and go below cause none.
func TestForeignChurnWritesNoNode(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	name, lower := w.lab.LowerName(1), w.lower(1)
	w.nodeReady(name, corev1.ConditionTrue, "LowerAnswers")
	if _, err := lower.CoreV1().Namespaces().Create(t.Context(), openNamespace(w.ns), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	writes := w.nodesSeen(name)
	const churn = 8
	for i := range churn {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("foreign-", i)},
			Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64), Containers: []corev1.Container{{
				Name: "c", Image: "theirs", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}},
			}}},
		}
		w.eventually(func() error { // Until the namespace has its account.
			_, err := lower.CoreV1().Pods(w.ns).Create(t.Context(), pod, metav1.CreateOptions{})
			return err
		})
		w.becomes(lower, pod.Name, "Running", running)
		wait(t, time.Second)
		if err := lower.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	written := len(writes()) - 1 // The first event is the Node as it is.
	if written > 1 {             // A heartbeat may fall into this time.
		t.Errorf("the Node was written %d times while %d pods of others came and went", written, churn)
	}
}
