package virtualnode_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// recovery bounds the wait for what comes back: informers wait up to a minute between their attempts.
const recovery = 90 * time.Second

// troubled is a world whose lower cluster is reached through a front that makes trouble.
type troubled struct {
	*world
	front *front
	node  string
}

// What a lower cluster, its network or its administrators can do to pods, one after the other on one lab. At the end of
// each nothing is lost and nothing is doubled.
func TestBadInput(t *testing.T) {
	t.Parallel()
	l := own(t, lab.Options{Lower: 2, Nodes: 3, UpperNodes: 1})
	front := newFront(t, l)
	front.admit(t, "")
	for _, story := range []struct {
		name string
		tell func(*troubled)
	}{
		{"Slow", slow},
		{"CreateForbidden", createForbidden},
		{"DeleteForbidden", deleteForbidden},
		{"TooManyRequests", tooManyRequests},
		{"InternalErrors", internalErrors},
		{"WebhookRejects", webhookRejects},
		{"WebhookChanges", webhookChanges},
		{"CredentialsReplaced", credentialsReplaced},
		{"EventsOnceAfterAKill", eventsOnceAfterAKill},
		{"UpperRestarted", upperRestarted},
		{"WatchGap", watchGap},
		{"LowerDownAndBack", lowerDownAndBack},
	} {
		t.Run(story.name, func(t *testing.T) {
			w := &troubled{world: newWorld(t, l), front: front, node: l.LowerName(1)}
			t.Cleanup(func() { front.does(nil, false) })
			w.nodeReady(w.node, corev1.ConditionTrue, "LowerAnswers")
			begin := time.Now()
			story.tell(w)
			front.does(nil, false)
			w.allMatched()
			t.Logf("took %s", time.Since(begin).Round(100*time.Millisecond))
		})
	}
}

// recovers waits long.
func (w *troubled) recovers(check func() error) {
	w.Helper()
	lab.Eventually(w.T, recovery, check)
}

// allMatched waits until every unfinished upper pod has exactly its lower pod, and no other is left.
func (w *troubled) allMatched() {
	w.Helper()
	w.recovers(func() error {
		upper, err := w.upper.CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		lower, err := w.lower(1).CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		wanted := map[string]bool{}
		for i := range upper.Items {
			if pod := &upper.Items[i]; pod.Status.Phase != corev1.PodFailed {
				wanted[string(pod.UID)] = true
			}
		}
		for i := range lower.Items {
			uid := lower.Items[i].Annotations[keys.UpperUID]
			if !wanted[uid] {
				return fmt.Errorf("pod %s is below without an upper pod, or twice", lower.Items[i].Name)
			}
			delete(wanted, uid)
		}
		if len(wanted) > 0 {
			return fmt.Errorf("%d upper pods have nothing below", len(wanted))
		}
		return nil
	})
}

// runs creates a pod and waits until it is running.
func (w *troubled) runs(name string, change ...func(*corev1.Pod)) (below *corev1.Pod) {
	w.Helper()
	w.create(w.pod(name, 1, change...))
	w.becomes(w.upper, name, "Running", running)
	return w.get(w.lower(1), name)
}

// becomesSoon is becomes with the patience that an informer's pauses ask for.
func (w *troubled) becomesSoon(name, what string, ok func(*corev1.Pod) bool) {
	w.Helper()
	w.recovers(func() error {
		pod, err := w.upper.CoreV1().Pods(w.ns).Get(w.Context(), name, metav1.GetOptions{})
		if err == nil && !ok(pod) {
			err = fmt.Errorf("pod %s is not %s: %s %s %+v", name, what, pod.Status.Phase, pod.Status.Reason, pod.Status.Conditions)
		}
		return err
	})
}

// refused waits until the pod says why it is not below, as a condition and as an event.
func (w *troubled) refused(name, words string) {
	w.Helper()
	w.becomes(w.upper, name, "refused", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return p.Status.Phase == corev1.PodPending && c.Status == corev1.ConditionFalse && c.Reason == "RefusedBelow" &&
			strings.Contains(c.Message, words)
	})
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(w.Context(), metav1.ListOptions{FieldSelector: "reason=RefusedBelow,involvedObject.name=" + name})
		if err == nil && len(events.Items) != 1 {
			err = fmt.Errorf("%d events RefusedBelow, want one", len(events.Items))
		}
		return err
	})
}

// accepted waits until a pod that was held back runs, and nothing is left of the trouble.
func (w *troubled) accepted(name string) {
	w.Helper()
	w.becomesSoon(name, "Running", running)
	if c := conditionOf(w.get(w.upper, name).Status.Conditions, keys.LowerPlaced); c.Type != "" {
		w.Errorf("the refusal is still shown: %+v", c)
	}
}

func never(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }

func pending(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodPending }

// Every call takes 2 s: everything takes its time, and the node stays Ready.
func slow(w *troubled) {
	w.front.does(func(*http.Request) fault { return fault{delay: 2 * time.Second} }, false)
	begin := time.Now()
	w.eventually(func() error { // A quiet cluster: nothing but the probes tells that it is there.
		node, err := w.upper.CoreV1().Nodes().Get(w.Context(), w.node, metav1.GetOptions{})
		if err != nil || conditionReason(node) != "LowerAnswers" {
			w.Fatalf("the node says %s, %v", conditionReason(node), err)
		}
		if left := 12*time.Second - time.Since(begin); left > 0 {
			return fmt.Errorf("%s left", left)
		}
		return nil
	})
	w.runs("p", never)
	if err := w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), "p", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.vanishes(w.upper, "p")
}

func forbidden(words string) *apierrors.StatusError {
	return apierrors.NewForbidden(corev1.Resource("pods"), "", fmt.Errorf("%s", words))
}

func createForbidden(w *troubled) {
	w.front.does(onPods(http.MethodPost, fault{answer: forbidden("no create for tessera")}), false)
	w.create(w.pod("p", 1, never))
	w.refused("p", "no create for tessera")
	w.nodeReady(w.node, corev1.ConditionTrue, "LowerAnswers")
	w.front.does(nil, false)
	w.accepted("p")
}

// Deleting is forbidden below: the upper pod stays Terminating, because it still runs.
func deleteForbidden(w *troubled) {
	w.runs("p")
	w.front.does(onPods(http.MethodDelete, fault{answer: forbidden("no delete for tessera")}), false)
	if err := w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), "p", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.inLog("no delete for tessera")
	if pod := w.get(w.upper, "p"); pod.DeletionTimestamp == nil || !running(pod) {
		w.Errorf("pod %s, deleted %v", pod.Status.Phase, pod.DeletionTimestamp)
	}
	w.front.does(nil, false)
	w.vanishes(w.upper, "p")
	w.vanishes(w.lower(1), "p")
}

// inLog waits until virtualnode has logged the words.
func (w *troubled) inLog(words string) {
	w.Helper()
	w.eventually(func() error { return logged(w.lab, words) })
}

func tooManyRequests(w *troubled) {
	w.front.does(onPods("", fault{answer: apierrors.NewTooManyRequests("slow down", 1)}), false)
	w.create(w.pod("p", 1, never))
	w.stays("p", 4*time.Second)
	w.front.does(nil, false)
	w.accepted("p")
}

func internalErrors(w *troubled) {
	w.front.does(onPods("", fault{answer: apierrors.NewInternalError(fmt.Errorf("etcd has no leader"))}), false)
	w.create(w.pod("p", 1, never))
	w.inLog("etcd has no leader")
	w.stays("p", 3*time.Second)
	w.front.does(nil, false)
	w.accepted("p")
}

// stays looks on for a while: the pod waits, without a word against it, since it is not to blame.
func (w *troubled) stays(name string, while time.Duration) {
	w.Helper()
	begin := time.Now()
	w.eventually(func() error {
		pod := w.get(w.upper, name)
		if c := conditionOf(pod.Status.Conditions, keys.LowerPlaced); !pending(pod) || c.Type != "" {
			w.Fatalf("pod %s is %s, %+v", name, pod.Status.Phase, c)
		}
		if left := while - time.Since(begin); left > 0 {
			return fmt.Errorf("%s left", left)
		}
		return nil
	})
}

// The account gets another token while pods live; the old one is not taken any more.
func credentialsReplaced(w *troubled) {
	before := w.runs("before")
	seconds := int64(3600)
	answer, err := w.lower(1).CoreV1().ServiceAccounts("tessera-system").CreateToken(w.Context(), "tessera",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	token := answer.Status.Token
	w.front.does(func(r *http.Request) fault {
		if r.Header.Get("Authorization") == "Bearer "+token {
			return fault{}
		}
		return fault{answer: apierrors.NewUnauthorized("the token has expired")}
	}, true)
	w.create(w.pod("meanwhile", 1, never))
	w.inLog("the token has expired")
	if pod := w.get(w.upper, "meanwhile"); !pending(pod) {
		w.Errorf("pod meanwhile is %s", pod.Status.Phase)
	}
	w.front.admit(w.T, token)
	w.accepted("meanwhile")
	w.nodeReady(w.node, corev1.ConditionTrue, "LowerAnswers")
	if again := w.get(w.lower(1), "before"); again.UID != before.UID || again.DeletionTimestamp != nil {
		w.Error("the pod that nobody touched was replaced or deleted")
	}
}

// What has been shown once is not shown a second time by the next process.
func eventsOnceAfterAKill(w *troubled) {
	below := w.runs("p")
	lower := w.lower(1).CoreV1().Events(w.ns)
	shown := func(want int32) map[types.UID]bool {
		w.Helper()
		uids := map[types.UID]bool{}
		w.recovers(func() error {
			all, err := w.shownEvents(1)
			if err != nil {
				return err
			}
			reasons := map[string]bool{}
			for _, event := range all {
				uids[event.UID] = true
				reasons[event.Reason] = event.Reason != "BackOff" || event.Count >= want
			}
			if !reasons["Scheduled"] || !reasons["BackOff"] {
				return fmt.Errorf("shown: %v", reasons)
			}
			return nil
		})
		return uids
	}
	if _, err := lower.Create(w.Context(), kubeletEvent(below, "p.1", "BackOff"), metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	before := shown(1)
	part := w.lab.Process(lab.PartVirtualNode)
	part.Kill()
	patch := fmt.Sprintf(`{"count":5,"lastTimestamp":%q}`, time.Now().UTC().Format(time.RFC3339))
	if _, err := lower.Patch(w.Context(), "p.1", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		w.Fatal(err)
	}
	if err := part.Restart(w.Context()); err != nil {
		w.Fatal(err)
	}
	if after := shown(5); len(after) != len(before) {
		w.Errorf("%d events are shown, before the kill %d", len(after), len(before))
	}
}

// The upper API server goes away and comes back: nothing below is touched meanwhile, and what happened there is told afterwards.
func upperRestarted(w *troubled) {
	before := w.runs("before")
	w.runs("gone")
	server := w.lab.Process("upper/apiserver")
	server.Kill()
	now := int64(0)
	if err := w.lower(1).CoreV1().Pods(w.ns).Delete(w.Context(), "gone", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		w.Fatal(err)
	}
	w.inLog("connection refused")
	if err := server.Restart(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.recovers(func() error {
		_, err := w.upper.CoreV1().Pods(w.ns).Create(w.Context(), w.pod("after", 1, never), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	w.becomesSoon("gone", "Failed", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "LowerPodGone"
	})
	w.becomesSoon("after", "Running", running)
	if again := w.get(w.lower(1), "before"); again.UID != before.UID || again.DeletionTimestamp != nil {
		w.Error("the pod that nobody touched was replaced or deleted")
	}
}
