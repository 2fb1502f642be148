package extender

import (
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	recorder "k8s.io/client-go/tools/record"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// A deadline makes up no reason: the text of a refusal stays what it was, or the pod that it is written to would wake for it.
func TestADeadlineRepeatsTheLastReason(t *testing.T) {
	e := newTestExtender(t)
	pod := testPod("p", "100")
	reasons := func(pod *corev1.Pod) map[string]string {
		return e.filterNames(t, pod, "a", "b").FailedAndUnresolvableNodes
	}
	entry := &wire.AvoidEntry{Owner: snapshot.OwnerOf(pod), Cluster: "b"}
	e.avoid.entries.SetDefault(entry.Key(), entry)
	before := reasons(pod)
	if before["a"] != text(keys.InsufficientCPU) || before["b"] != text(keys.Avoided) {
		t.Fatalf("refused with %v", before)
	}
	e.config.FilterDeadline.Duration = -time.Second
	for range 3 { // What is repeated is remembered for the next time.
		if got := reasons(pod); got["a"] != before["a"] || got["b"] != before["b"] {
			t.Errorf("without time the reasons are %v, they were %v", got, before)
		}
	}
	again := testPod("p", "100")
	again.UID = "another"
	if got := reasons(again); got["a"] != text(keys.NotSynced) {
		t.Errorf("a pod that was never asked about is refused with %v", got)
	}
}

// The node that room is held behind has the top score, whether or not there was time to look at it once more.
func TestTheHoldHasTheTopScore(t *testing.T) {
	e := newTestExtender(t)
	pod := testPod("p", "1")
	names := []string{"a", "b", "real"}
	e.filterNames(t, pod, names...)
	held := e.pool.Hold(pod.UID).Cluster
	e.config.FilterDeadline.Duration = -time.Second
	var list extenderv1.HostPriorityList
	e.call(t, http.MethodPost, "/scheduler/prioritize", encode(t, extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names}), &list)
	for _, node := range list {
		if want := node.Host == held; want != (node.Score == extenderv1.MaxExtenderPriority) || !want && node.Score > 1 {
			t.Errorf("%s has %d, the room is held in %s", node.Host, node.Score, held)
		}
	}
}

// A claim that is not there is an answer at once: nothing is built for it.
func TestAMissingClaimIsSeenAtOnce(t *testing.T) {
	e := newTestExtender(t)
	claims := e.clusters["a"].claims
	pod := testPod("p", "1")
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "none"},
	}}}
	if !claims.MissesVolume(pod) || claims.MissesDevice(pod) {
		t.Error("a missing volume claim is not seen")
	}
	pod.Spec.Volumes = nil
	pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: new("none")}}
	if claims.MissesVolume(pod) || !claims.MissesDevice(pod) {
		t.Error("a missing resource claim is not seen")
	}
}

// While the upper API server is silent nothing is concluded from what its caches lack.
func TestABlindUpperView(t *testing.T) {
	e := newTestExtender(t)
	now := time.Now()
	if e.upperView.blind(now) {
		t.Error("blind before anybody looked")
	}
	e.upperView.heard(now.Add(-blindAfter - time.Second))
	if got := e.filterNames(t, testPod("p", "1"), "a").FailedAndUnresolvableNodes["a"]; got != text(keys.NotSynced) {
		t.Errorf("new room is promised: %q", got)
	}
	e.upperView.heard(now)
	if got := len(*e.filterNames(t, testPod("p", "1"), "a").NodeNames); got != 1 {
		t.Error("and none when it answers again")
	}
}

// /healthz notices that somebody keeps the lock for good; /readyz waits for nobody.
func TestLiveness(t *testing.T) {
	e := newTestExtender(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	for since, want := range map[time.Duration]int{time.Second: http.StatusOK, 2 * hungAfter: http.StatusServiceUnavailable} {
		e.alive.heard(time.Now().Add(-since))
		for path, status := range map[string]int{"/healthz": want, "/readyz": http.StatusOK} {
			if got := e.call(t, http.MethodGet, path, "", nil); got != status {
				t.Errorf("%s after %s: %d, want %d", path, since, got, status)
			}
		}
	}
}

// What lower clusters have refused is refused above, until the Node says otherwise; nobody waits for ever for a pod that is not below.
func TestRefusedBelow(t *testing.T) {
	e := newTestExtender(t)
	pod := testPod("p", "1")
	pod.Spec.NodeName, pod.Status.Conditions = "a", []corev1.PodCondition{
		{Type: keys.LowerPlaced, Status: corev1.ConditionFalse, Reason: string(keys.RefusedBelow)},
	}
	bound := testPod("p", "1")
	bound.Spec.NodeName = "a"
	e.upper.observe(bound, false)
	if e.pool.Hold(types.UID("uid-p")) == nil {
		t.Fatal("a bound pod has no hold")
	}
	e.upper.observe(pod, false)
	if hold := e.pool.Hold(types.UID("uid-p")); hold != nil {
		t.Errorf("a pod that is refused below keeps its room: %+v", hold)
	}
}

// A pod that every cluster refuses is told once which ones, and why; one that waits for room alone is not.
func TestRefusedByAll(t *testing.T) {
	e := newTestExtender(t)
	events := recorder.NewFakeRecorder(10)
	e.events = events
	e.filterNames(t, testPod("large", "100"), "a", "b")
	pod := testPod("privileged", "100")
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	for range 3 {
		e.filterNames(t, pod, "b", "a")
	}
	if len(events.Events) != 1 {
		t.Fatalf("%d events", len(events.Events))
	}
	want := "Warning NoClusterTakesIt No lower cluster takes the pod. NotAllowed (" + texts[keys.NotAllowed] + "): a, b"
	if got := <-events.Events; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A cluster that there was no time to ask is looked at again, whatever it said before.
func TestWhoWasNotAskedIsAskedAgain(t *testing.T) {
	e := newTestExtender(t)
	pod := testPod("p", "100")
	names := []string{"a", "b"}
	e.filter(&extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names})
	for _, target := range e.waiting[pod.UID].targets {
		if target.restless {
			t.Errorf("%s has said why, and is restless", target.name)
		}
	}
	e.config.FilterDeadline.Duration = -time.Second
	e.filter(&extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names})
	for _, target := range e.waiting[pod.UID].targets {
		if !target.restless {
			t.Errorf("%s was not asked, and is not restless", target.name)
		}
	}
	e.config.FilterDeadline.Duration = time.Second
	e.publish(snapshot.New(snapshot.Content{Cluster: "b", Nodes: []*snapshot.Node{lowerNode("b1", "200")}}))
	if pods := e.fitNow(t.Context(), time.Now()); len(pods) != 1 {
		t.Errorf("%d pods fit now", len(pods))
	}
}
