package virtualnode_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// shownEvents are the events of a lower cluster that are shown in the world's namespace.
func (w *world) shownEvents(k int) ([]corev1.Event, error) {
	list, err := w.upper.CoreV1().Events(w.ns).List(w.Context(), metav1.ListOptions{LabelSelector: keys.Cluster + "=" + w.lab.LowerName(k)})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// kubeletEvent is an event about a lower pod as its kubelet would write it.
func kubeletEvent(below *corev1.Pod, name, reason string) *corev1.Event {
	now := metav1.Now()
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: below.Namespace, Name: name},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: below.Namespace, Name: below.Name, UID: below.UID, FieldPath: "spec.containers{main}",
		},
		Type: corev1.EventTypeWarning, Reason: reason, Message: "Back-off restarting failed container", Count: 1,
		FirstTimestamp: now, LastTimestamp: now, Source: corev1.EventSource{Component: "kubelet", Host: below.Spec.NodeName},
	}
}

// What the lower cluster says of a pod is shown on the upper pod, once, with where it comes from.
func TestEventsComeUp(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1).CoreV1().Events(w.ns)
	upper := w.create(w.pod("p", 1))
	w.becomes(w.upper, "p", "Running", running)
	below := w.get(w.lower(1), "p")
	foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "theirs"}}}}
	foreign, err := w.lower(1).CoreV1().Pods(w.ns).Create(t.Context(), foreign, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range []*corev1.Event{kubeletEvent(foreign, "foreign.1", "BackOff"), kubeletEvent(below, "p.1", "BackOff")} {
		if _, err := lower.Create(t.Context(), event, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	find := func(reason string, count int32) corev1.Event {
		t.Helper()
		var found corev1.Event
		w.eventually(func() error {
			all, err := w.shownEvents(1)
			if err != nil {
				return err
			}
			for _, event := range all {
				if event.Reason == reason && event.Count >= count {
					found = event
					return nil
				}
			}
			return fmt.Errorf("no event %s with a count of %d among %d", reason, count, len(all))
		})
		return found
	}
	scheduled, backOff := find("Scheduled", 0), find("BackOff", 1)
	if from := w.lab.LowerName(1) + "/default-scheduler"; scheduled.Source.Component != from || !strings.Contains(scheduled.Message, below.Spec.NodeName) {
		t.Errorf("%q from %q, want the lower node %s and from %q", scheduled.Message, scheduled.Source.Component, below.Spec.NodeName, from)
	}
	if backOff.InvolvedObject.UID != upper.UID || backOff.Source.Host != below.Spec.NodeName || backOff.Type != corev1.EventTypeWarning {
		t.Errorf("event %+v", backOff)
	}

	patch := fmt.Sprintf(`{"count":7,"lastTimestamp":%q}`, time.Now().UTC().Format(time.RFC3339))
	if _, err := lower.Patch(t.Context(), "p.1", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := find("BackOff", 7); again.UID != backOff.UID {
		t.Error("what happened again is shown as another event")
	}
	out, err := w.lab.Kubectl(t.Context(), "describe", "pod", "p", "-n", w.ns)
	if err != nil {
		t.Fatal(err)
	}
	if from := w.lab.LowerName(1) + "/kubelet"; !strings.Contains(out, from) || !strings.Contains(out, "(x7 over") {
		t.Errorf("kubectl describe does not tell of %s and of 7 times:\n%s", from, out)
	}
	all, err := w.shownEvents(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range all {
		if event.InvolvedObject.UID != upper.UID {
			t.Errorf("an event of somebody else's pod is shown: %s %s", event.InvolvedObject.Name, event.Message)
		}
	}
}
