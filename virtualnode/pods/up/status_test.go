package up

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/podtest"
)

// The pods of this package's tests.
var (
	upperPod, lowerPod  = podtest.UpperPod, podtest.LowerPod
	phase, deleting     = podtest.Phase, podtest.Deleting
	disrupted, restarts = podtest.Disrupted, podtest.Restarts
	withCondition       = podtest.WithCondition
)

// to reports to an API server that is a map.
func to(above ...runtime.Object) (Reports, *fake.Clientset) {
	client := fake.NewClientset(above...)
	return Reports{
		Name: "v", Upper: client.CoreV1(), Reachable: func() bool { return true }, Count: func(error) {}, Wrote: func(_, _ *corev1.Pod) {},
	}, client
}

func TestReported(t *testing.T) {
	t.Parallel()
	upper := upperPod("1", withCondition(corev1.PodScheduled, corev1.ConditionTrue))
	lower := lowerPod("1", phase(corev1.PodRunning), withCondition(corev1.PodScheduled, corev1.ConditionTrue), withCondition(corev1.PodReady, corev1.ConditionTrue))
	lower.Spec.NodeName, lower.Status.PodIP, lower.Status.QOSClass = "n1", "10.0.0.1", corev1.PodQOSGuaranteed
	got := (Reports{Name: "v"}).reported(upper, lower, RefusedSize{})
	want := corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBurstable, Conditions: []corev1.PodCondition{
		{Type: keys.LowerScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue},
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}}
	if diff := cmp.Diff(want, got.Status); diff != "" {
		t.Error(diff)
	}
	facts := map[string]string{keys.LowerNode: "n1", keys.LowerIP: "10.0.0.1", keys.Tolerations: upper.Annotations[keys.Tolerations]}
	if diff := cmp.Diff(facts, got.Annotations); diff != "" {
		t.Error(diff)
	}
	if len(upper.Annotations) != 1 || upper.Status.Phase != corev1.PodPending {
		t.Error("the pod of the cache was changed")
	}
}

// The cost of a deletion goes along with the news of the lower node, and is never written for its own sake.
func TestDeletionCostGoesAlong(t *testing.T) {
	t.Parallel()
	upper := upperPod("1", func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Controller: new(true)}}
		p.Annotations[keys.Policy] = keys.PolicyOverflow
	})
	lower := lowerPod("1")
	cost := func() string {
		return (Reports{Name: "v"}).reported(upper, lower, RefusedSize{}).Annotations[corev1.PodDeletionCost]
	}
	if got := cost(); got != "" {
		t.Errorf("%q without a node", got)
	}
	lower.Spec.NodeName = "n1"
	if got := cost(); got != "-100" {
		t.Errorf("%q with the node", got)
	}
	upper.Annotations[keys.LowerNode] = "n1"
	if got := cost(); got != "" {
		t.Errorf("%q when there is no other news", got)
	}
}

// The order of conditions is the API server's; a difference in it is no news.
func TestEqualStatusIsNotWritten(t *testing.T) {
	t.Parallel()
	upper := upperPod("1", withCondition("b", corev1.ConditionTrue), withCondition("a", corev1.ConditionTrue))
	wanted := upperPod("1", withCondition("a", corev1.ConditionTrue), withCondition("b", corev1.ConditionTrue))
	reports, client := to(upper)
	if err := reports.WriteStatus(t.Context(), upper, wanted); err != nil {
		t.Fatal(err)
	}
	if got := client.Actions(); len(got) > 0 {
		t.Errorf("written: %v", got)
	}
}

// What others changed above in the meantime is not turned back by a report.
func TestReportSendsDifferencesOnly(t *testing.T) {
	t.Parallel()
	seen := upperPod("1")
	current := seen.DeepCopy()
	current.Labels["team"] = "new"
	current.Annotations = map[string]string{"note": "new"}
	withCondition("example.com/gate", corev1.ConditionTrue)(current)
	reports, client := to(current)
	if _, err := reports.Report(t.Context(), seen, lowerPod("1", phase(corev1.PodRunning)), RefusedSize{}, nil, &Memory{}); err != nil {
		t.Fatal(err)
	}
	got, err := client.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Labels["team"] != "new" || got.Annotations["note"] != "new" || pair.Condition(got, "example.com/gate") == nil || got.Status.Phase != corev1.PodRunning {
		t.Errorf("labels %v, annotations %v, status %+v", got.Labels, got.Annotations, got.Status)
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	at := metav1.NewTime(time.Unix(5, 0))
	upper := upperPod("1", phase(corev1.PodRunning), withCondition(corev1.PodReady, corev1.ConditionTrue), withCondition("other", corev1.ConditionTrue))
	upper.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "runs", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}}},
		{Name: "ended", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}}},
	}
	got := Failed(upper, ReasonGone, "words", at).Status
	want := corev1.PodStatus{
		Phase: corev1.PodFailed, Reason: ReasonGone, Message: "words", QOSClass: corev1.PodQOSBurstable,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "PodFailed", LastTransitionTime: at},
			{Type: "other", Status: corev1.ConditionTrue},
		},
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: "runs", Started: new(bool), State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 137, Reason: ReasonGone, StartedAt: at, FinishedAt: at}}},
			{Name: "ended", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Somebody below stopped a pod that should run for ever: it has not succeeded, whatever its exit code says.
func TestStoppedBelow(t *testing.T) {
	t.Parallel()
	policy := func(p corev1.RestartPolicy) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Spec.RestartPolicy = p }
	}
	ended := lowerPod("1", phase(corev1.PodSucceeded), deleting(1))
	for name, c := range map[string]struct {
		upper, lower *corev1.Pod
		want         corev1.PodPhase
	}{
		"service":                      {upperPod("1", policy(corev1.RestartPolicyAlways)), ended, corev1.PodFailed},
		"job":                          {upperPod("1", policy(corev1.RestartPolicyOnFailure)), ended, corev1.PodSucceeded},
		"service that we are deleting": {upperPod("1", policy(corev1.RestartPolicyAlways), deleting(1)), ended, corev1.PodSucceeded},
		"ended before it was deleted":  {upperPod("1", policy(corev1.RestartPolicyNever)), lowerPod("1", phase(corev1.PodSucceeded)), corev1.PodSucceeded},
	} {
		if got := (Reports{Name: "v"}).reported(c.upper, c.lower, RefusedSize{}).Status.Phase; got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// That a lower pod has a node waits a moment for the kubelet's news; all else is told at once.
func TestScheduledWaitsForMore(t *testing.T) {
	t.Parallel()
	scheduled := func(p *corev1.Pod) { withCondition(keys.LowerScheduled, corev1.ConditionTrue)(p) }
	unscheduled := func(p *corev1.Pod) { withCondition(keys.LowerScheduled, corev1.ConditionFalse)(p) }
	starting := func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c"}} }
	for name, c := range map[string]struct {
		upper, told *corev1.Pod
		waits       bool
	}{
		"has a node":               {upperPod("1"), upperPod("1", scheduled), true},
		"has one after all":        {upperPod("1", unscheduled), upperPod("1", scheduled), true},
		"has none":                 {upperPod("1"), upperPod("1", unscheduled), false},
		"its containers are there": {upperPod("1"), upperPod("1", scheduled, starting), false},
		"runs":                     {upperPod("1"), upperPod("1", scheduled, phase(corev1.PodRunning)), false},
		"said already":             {upperPod("1", scheduled), upperPod("1", scheduled), false},
		"is being deleted":         {upperPod("1", deleting(1)), upperPod("1", scheduled, deleting(1)), false},
	} {
		m, now := &Memory{}, time.Unix(100, 0)
		if got := m.early(c.upper, c.told, now); (got == scheduledPause) != c.waits || (got == 0) == c.waits {
			t.Errorf("%s: waits for %s", name, got)
		}
		if got := m.early(c.upper, c.told, now.Add(scheduledPause)); got != 0 {
			t.Errorf("%s: waits for %s more", name, got)
		}
	}
}
