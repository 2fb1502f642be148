package rebalance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// stuckPod is a pod of a ReplicaSet that has been unschedulable below for so many seconds at noon.
func stuckPod(namespace, name, owner string, seconds int, changes ...func(*Pod)) Pod {
	pod := Pod{
		Namespace: namespace, Name: name, UID: types.UID(namespace + name), Cluster: "a",
		Owner:    snapshot.Owner{Kind: "ReplicaSet", Namespace: namespace, Name: owner, UID: types.UID(owner)},
		Unplaced: keys.Unschedulable, Since: noon.Add(-time.Duration(seconds) * time.Second),
	}
	for _, change := range changes {
		change(&pod)
	}
	return pod
}

// plenty are limits that do not bind.
var plenty = Limits{
	MaxPerCycle: 100, MaxPerNamespacePerCycle: 100, MaxPerOwnerPerHour: 100, MaxPerHour: 100,
	MaxUnplacedPerCycle: 100, MaxUnplacedPerHour: 100,
}

// ran is the policy stuck as if it were about pods that ran, for which there are other limits.
type ran struct{ stuck }

func (ran) name() string { return "ran" }

func TestPlan(t *testing.T) {
	ago := func(minutes int, owner types.UID) Moved {
		return Moved{At: noon.Add(-time.Duration(minutes) * time.Minute), Owner: owner}
	}
	three := []Pod{stuckPod("shop", "p3", "web", 70), stuckPod("shop", "p1", "web", 90), stuckPod("shop", "p2", "web", 80)}
	two := []Pod{stuckPod("shop", "p1", "web", 90), stuckPod("shop", "p2", "db", 80)}
	limited := func(change func(*Limits)) Limits {
		l := plenty
		change(&l)
		return l
	}
	cases := map[string]struct {
		pods   []Pod
		past   []Moved
		limits Limits
		want   string // "name" is moved, "name=Reason" stays; in the order of the plan
	}{
		"nothing":            {nil, nil, plenty, ""},
		"those waiting long": {append(three, stuckPod("shop", "young", "web", 60)), nil, plenty, "p1 p2 p3"},
		"scheduled below":    {[]Pod{{Namespace: "shop", Name: "p", UID: "u"}}, nil, plenty, ""},
		"in the future":      {[]Pod{stuckPod("shop", "p1", "web", -90)}, nil, plenty, ""},
		"terminating":        {[]Pod{stuckPod("shop", "p1", "web", 90, func(p *Pod) { p.Terminating = true })}, nil, plenty, "p1=Terminating"},
		"kube-system":        {[]Pod{stuckPod("kube-system", "p1", "web", 90)}, nil, plenty, "p1=ProtectedNamespace"},
		"kept":               {[]Pod{stuckPod("shop", "p1", "web", 90, func(p *Pod) { p.Keep = true })}, nil, plenty, "p1=Kept"},
		"no controller":      {[]Pod{stuckPod("shop", "p1", "shopp1", 90)}, nil, plenty, "p1=NoController"},
		"of a DaemonSet":     {[]Pod{stuckPod("shop", "p1", "ds", 90, func(p *Pod) { p.Owner.Kind = "DaemonSet" })}, nil, plenty, "p1=OwnerNotMovable"},
		"of a custom owner":  {[]Pod{stuckPod("shop", "p1", "ds", 90, func(p *Pod) { p.Owner.Kind = "Workflow" })}, nil, plenty, "p1=OwnerNotMovable"},
		"of a gang":          {[]Pod{stuckPod("shop", "p1", "web", 90, func(p *Pod) { p.Gang = true })}, nil, plenty, "p1=GangMember"},
		"with claims":        {[]Pod{stuckPod("shop", "p1", "web", 90, func(p *Pod) { p.Claims = true })}, nil, plenty, "p1=HasClaims"},
		"no news":            {[]Pod{stuckPod("shop", "p1", "web", 90, func(p *Pod) { p.Stale = true })}, nil, plenty, "p1=LowerUnreachable"},
		"tried in vain":      {[]Pod{stuckPod("shop", "p1", "web", 90, func(p *Pod) { p.Waits = NoOtherCluster })}, nil, plenty, "p1=NoOtherCluster"},
		"what stays takes no room": {
			append(two, stuckPod("shop", "kept", "web", 99, func(p *Pod) { p.Keep = true })), nil,
			limited(func(l *Limits) { l.MaxPerCycle = 2 }), "p1 p2 kept=Kept",
		},
		"per cycle": {two, nil, limited(func(l *Limits) { l.MaxPerCycle = 1 }), "p1 p2=MaxPerCycle"},
		"per namespace": {
			append(two, stuckPod("other", "p4", "web4", 70)), nil,
			limited(func(l *Limits) { l.MaxPerNamespacePerCycle = 1 }), "p1 p4 p2=MaxPerNamespacePerCycle",
		},
		"per owner": {
			append(three, stuckPod("shop", "p9", "db", 65)), []Moved{ago(59, "web"), ago(60, "web")},
			limited(func(l *Limits) { l.MaxPerOwnerPerHour = 2 }), "p1 p9 p2=MaxPerOwnerPerHour p3=MaxPerOwnerPerHour",
		},
		"the breaker": {
			two, []Moved{ago(1, "x"), ago(2, "y"), ago(99, "z")},
			limited(func(l *Limits) { l.MaxPerHour = 3 }), "p1 p2=MaxPerHour",
		},
		"the breaker, open": {two, []Moved{ago(1, "x"), ago(2, "y")}, limited(func(l *Limits) { l.MaxPerHour = 2 }), "p1=MaxPerHour p2=MaxPerHour"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got := Plan(noon, test.pods, test.past, test.limits, DefaultStay(), ran{stuck{after: time.Minute}})
			if diff := cmp.Diff(test.want, text(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func text(d Decision) string {
	var words []string
	for _, move := range d.Moves {
		words = append(words, move.Name)
	}
	for _, skip := range d.Skipped {
		words = append(words, skip.Name+"="+string(skip.Reason))
	}
	return strings.Join(words, " ")
}

func TestMoveSaysWhy(t *testing.T) {
	pod := stuckPod("shop", "p1", "web", 90)
	got := Plan(noon, []Pod{pod}, nil, plenty, DefaultStay(), stuck{after: time.Minute})
	want := Decision{Skipped: []Skip{}, Moves: []Move{{
		Namespace: "shop", Name: "p1", UID: "shopp1", Owner: pod.Owner, Cluster: "a", Policy: "stuck",
		Since: pod.Since, Reason: "Unschedulable",
	}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Move{})); diff != "" {
		t.Error(diff)
	}
}

// everybody wants every pod moved: a second policy beside stuck.
type everybody struct{}

func (everybody) name() string { return "everybody" }
func (everybody) judge(now time.Time, _ Pod) (time.Time, string, bool) {
	return now, "Because", true
}

func TestPoliciesInOrder(t *testing.T) {
	pods := []Pod{stuckPod("shop", "fine", "web", 1), stuckPod("shop", "bad", "web", 90)}
	got := Plan(noon, pods, nil, plenty, DefaultStay(), stuck{after: time.Minute}, everybody{})
	var policies []string
	for _, move := range got.Moves {
		policies = append(policies, move.Name+":"+move.Policy)
	}
	if diff := cmp.Diff([]string{"bad:stuck", "fine:everybody"}, policies); diff != "" {
		t.Error(diff)
	}
}

// TestPlanKeepsLimits carries random plans out, one after the other, and counts.
func TestPlanKeepsLimits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		limits := Limits{
			MaxPerCycle: 1 + random.IntN(6), MaxPerNamespacePerCycle: 1 + random.IntN(4),
			MaxPerOwnerPerHour: 1 + random.IntN(4), MaxPerHour: 1 + random.IntN(20),
		}
		var past []Moved
		now := noon
		for range 20 {
			now = now.Add(time.Duration(random.IntN(900)) * time.Second)
			pods := randomPods(random)
			decision := Plan(now, pods, past, limits, DefaultStay(), ran{stuck{after: time.Minute}})
			if got := len(decision.Moves) + len(decision.Skipped); got != len(pods) {
				t.Fatalf("%d pods are stuck, %d are in the plan", len(pods), got)
			}
			shuffled := slices.Clone(pods)
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			again := Plan(now, shuffled, past, limits, DefaultStay(), ran{stuck{after: time.Minute}})
			if diff := cmp.Diff(decision, again, cmp.AllowUnexported(Move{}, Skip{})); diff != "" {
				t.Fatalf("the order of the pods matters:\n%s", diff)
			}
			for _, move := range decision.Moves {
				past = append(past, Moved{At: now, Owner: move.Owner.UID})
			}
			checkLimits(t, now, decision.Moves, past, limits)
		}
	}
}

func randomPods(random *rand.Rand) []Pod {
	pods := make([]Pod, random.IntN(12))
	for i := range pods {
		pods[i] = stuckPod(fmt.Sprint("ns", random.IntN(3)), fmt.Sprint("p", i), fmt.Sprint("owner", random.IntN(5)), 61+random.IntN(5))
	}
	return pods
}

func checkLimits(t *testing.T, now time.Time, moves []Move, past []Moved, limits Limits) {
	t.Helper()
	namespaces, owners, hour := map[string]int{}, map[types.UID]int{}, 0
	for _, move := range moves {
		namespaces[move.Namespace]++
	}
	for _, moved := range past {
		if now.Sub(moved.At) < time.Hour {
			owners[moved.Owner]++
			hour++
		}
	}
	for namespace, n := range namespaces {
		if n > limits.MaxPerNamespacePerCycle {
			t.Fatalf("%d moves in %s: %+v", n, namespace, limits)
		}
	}
	for owner, n := range owners {
		if n > limits.MaxPerOwnerPerHour {
			t.Fatalf("%d moves of %s: %+v", n, owner, limits)
		}
	}
	if len(moves) > limits.MaxPerCycle || hour > limits.MaxPerHour {
		t.Fatalf("%d moves in a cycle, %d in an hour: %+v", len(moves), hour, limits)
	}
}

func TestNewPod(t *testing.T) {
	yes := true
	since := metav1.NewTime(noon)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "p", UID: "u", ResourceVersion: "7", DeletionTimestamp: &since,
			Annotations:     map[string]string{keys.Keep: "true", "big": strings.Repeat("x", 1000)},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Job", Name: "j", UID: "ju", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "a", Containers: []corev1.Container{{Name: "c"}}, Volumes: []corev1.Volume{{Name: "tmp"}, {
			Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
			{Type: keys.LowerPlaced, Status: corev1.ConditionFalse, Reason: "Unschedulable", LastTransitionTime: since},
		}},
	}
	want := Pod{
		Namespace: "shop", Name: "p", UID: "u", ResourceVersion: "7", Cluster: "a", Terminating: true, Keep: true,
		Owner: snapshot.Owner{Kind: "Job", Namespace: "shop", Name: "j", UID: "ju"}, Unplaced: keys.Unschedulable, Claims: true,
	}
	trimmed, err := onlyJudged(pod)
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]*corev1.Pod{"whole": pod, "trimmed": trimmed.(*corev1.Pod)} {
		got, ok := newPod(from)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s: ok %v\n%s", name, ok, diff)
		}
	}
	if trimmed.(*corev1.Pod).Spec.Containers != nil || len(trimmed.(*corev1.Pod).Annotations) != 1 {
		t.Errorf("not trimmed: %+v", trimmed)
	}
	for name, change := range map[string]func(*corev1.Pod){
		"placed below": func(p *corev1.Pod) { p.Status.Conditions[1].Status = corev1.ConditionTrue },
		"unbound":      func(p *corev1.Pod) { p.Spec.NodeName = "" },
		"running":      func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning },
	} {
		other := pod.DeepCopy()
		change(other)
		if got, ok := newPod(other); ok && got.Unplaced != "" {
			t.Errorf("%s: counts as stuck", name)
		}
	}
}

// Pods that never ran have limits of their own, and use up none of the others.
func TestUnplacedLimits(t *testing.T) {
	limits := DefaultLimits()
	limits.MaxUnplacedPerCycle, limits.MaxUnplacedPerHour = 3, 4
	var pods []Pod
	for i := range 5 {
		pods = append(pods, stuckPod("shop", fmt.Sprint("p", i), "web", 99-i))
	}
	past := []Moved{{At: noon, Owner: "web"}, {At: noon, Owner: "web"}, {At: noon, Owner: "web"}, {At: noon.Add(-2 * time.Hour), Unplaced: true}}
	if diff := cmp.Diff("p0 p1 p2 p3=MaxPerCycle p4=MaxPerCycle", text(Plan(noon, pods, past, limits, DefaultStay(), stuck{after: time.Minute}))); diff != "" {
		t.Error(diff)
	}
	past = append(past, Moved{At: noon, Unplaced: true}, Moved{At: noon, Unplaced: true})
	if diff := cmp.Diff("p0 p1 p2=MaxPerHour p3=MaxPerHour p4=MaxPerHour",
		text(Plan(noon, pods, past, limits, DefaultStay(), stuck{after: time.Minute}))); diff != "" {
		t.Error(diff)
	}
}

// Where something below may yet make room, pods wait for longer.
func TestStuckAfterBy(t *testing.T) {
	long := metav1.Duration{Duration: 10 * time.Minute}
	policy := stuck{after: time.Minute, by: []StuckAfter{
		{Cluster: "b", Reason: keys.Unschedulable, After: long}, {Reason: keys.Gated, After: long},
	}}
	for name, c := range map[string]struct {
		change func(*Pod)
		want   bool
	}{
		"as all":                {func(*Pod) {}, true},
		"an autoscaler":         {func(p *Pod) { p.Cluster = "b" }, false},
		"not for that reason":   {func(p *Pod) { p.Cluster, p.Unplaced = "b", keys.Quota }, true},
		"a queue, anywhere":     {func(p *Pod) { p.Unplaced = keys.Gated }, false},
		"no cluster would help": {func(p *Pod) { p.Unplaced = keys.ObjectsUnread }, false},
		"nothing is the matter": {func(p *Pod) { p.Unplaced = "" }, false},
	} {
		if _, _, got := policy.judge(noon, stuckPod("shop", "p", "web", 90, c.change)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What counts is since when this process has seen a pod wait on a cluster of which there were news all the time.
func TestSeen(t *testing.T) {
	s := seen{}
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	for i, step := range []struct {
		at    int
		fresh []string
		waits bool
		since int // -1: of no use
	}{
		{0, []string{"a"}, true, 0}, {50, []string{"a"}, true, 0}, {60, nil, true, -1}, {70, []string{"a"}, true, 70},
		{80, []string{"a"}, true, 70}, {90, []string{"a"}, false, -1}, {95, []string{"a"}, true, 95},
	} {
		pod := Pod{UID: "u", Cluster: "a"}
		if step.waits {
			pod.Unplaced = keys.Quota
		}
		pods := []Pod{pod}
		s.look(pods, step.fresh, at(step.at))
		usable := !pods[0].Stale && !pods[0].Since.IsZero()
		if usable != (step.since >= 0) || usable && !pods[0].Since.Equal(at(step.since)) {
			t.Errorf("step %d: %+v", i, pods[0])
		}
	}
}

func TestJobsThatSpareAPod(t *testing.T) {
	ignores := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:          batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
	}}}
	for name, c := range map[string]struct {
		job  batchv1.Job
		want bool
	}{
		"none to spare": {batchv1.Job{Spec: batchv1.JobSpec{BackoffLimit: new(int32)}}, false},
		"one to spare":  {batchv1.Job{Spec: batchv1.JobSpec{BackoffLimit: new(int32(1))}}, true},
		"used up":       {batchv1.Job{Spec: batchv1.JobSpec{BackoffLimit: new(int32(1))}, Status: batchv1.JobStatus{Failed: 1}}, false},
		"by index":      {batchv1.Job{Spec: batchv1.JobSpec{BackoffLimit: new(int32(6)), BackoffLimitPerIndex: new(int32)}}, false},
		"ignores it":    {batchv1.Job{Spec: batchv1.JobSpec{BackoffLimit: new(int32), PodFailurePolicy: ignores}}, true},
	} {
		if got := sparesPod(&c.job); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
