package entry

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	"k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
)

func TestQuota(t *testing.T) {
	t.Parallel()
	ends := func(pod *corev1.Pod) { pod.Spec.ActiveDeadlineSeconds = new(int64(60)) }
	of := func(class string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Spec.PriorityClassName = class }
	}
	across := func(pod *corev1.Pod) {
		pod.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, NamespaceSelector: &metav1.LabelSelector{}},
		}}}
	}
	onlyClass := func(quota *corev1.ResourceQuota, class string) *corev1.ResourceQuota {
		quota.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
			{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: corev1.ScopeSelectorOpIn, Values: []string{class}},
		}}
		return quota
	}
	beingDeleted := func(pod *corev1.Pod) {
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = new(metav1.Unix(1, 0)), new(int64(1))
	}
	pods := func(pods ...*corev1.Pod) []*corev1.Pod { return pods }
	cases := map[string]struct {
		pod        *corev1.Pod
		onTheirWay []*corev1.Pod
		quota      *corev1.ResourceQuota
		want       string // "" if the pod may enter
	}{
		"room that is just enough": {newPod("cpu=2", ""), nil, quota("q", "requests.cpu=4", "requests.cpu=2"), ""},
		"requests that are too much": {newPod("cpu=2", ""), nil, quota("q", "requests.cpu=4", "requests.cpu=3"),
			`pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=3, limited: requests.cpu=4`},
		"cpu is another word for requests.cpu": {newPod("cpu=2", ""), nil, quota("q", "cpu=1", "cpu=0"), "exceeded quota: q, requested: cpu=2"},
		"limits that are too much": {newPod("memory=1Gi", "memory=3Gi"), nil, quota("q", "limits.memory=2Gi", "limits.memory=0"),
			"exceeded quota: q, requested: limits.memory=3Gi"},
		"init containers count as the scheduler counts them": {newPod("cpu=1", "", withInit(container("first", "cpu=3", ""))), nil,
			quota("q", "requests.cpu=2", "requests.cpu=0"), "requested: requests.cpu=3"},
		"sidecars count beside the rest": {newPod("cpu=1", "", withInit(sidecar("side", "cpu=2", ""))), nil,
			quota("q", "requests.cpu=2", "requests.cpu=0"), "requested: requests.cpu=3"},
		"overhead counts": {newPod("cpu=1", "", func(pod *corev1.Pod) { pod.Spec.Overhead = amounts("cpu=2") }), nil,
			quota("q", "requests.cpu=2", "requests.cpu=0"), "requested: requests.cpu=3"},

		"no limit where a quota wants one": {newPod("memory=1Gi", ""), nil, quota("q", "limits.memory=8Gi", "limits.memory=0"),
			"failed quota: q: must specify limits.memory for: main"},
		"one container of two without a limit": {newPod("", "memory=1Gi", withMore(container("more", "", ""))), nil,
			quota("q", "limits.memory=8Gi", "limits.memory=0"), "must specify limits.memory for: more"},
		"no limit in containers, but at the level of the pod": {newPod("", "", withPodLevel("memory=1Gi", "memory=1Gi")), nil,
			quota("q", "limits.memory=8Gi", "limits.memory=0"), ""},
		"no request for storage, which no quota asks for": {newPod("", ""), nil,
			quota("q", "requests.ephemeral-storage=1Gi", "requests.ephemeral-storage=0"), ""},

		"a number of pods that is reached":  {newPod("", ""), nil, quota("q", "pods=3", "pods=3"), "exceeded quota: q, requested: pods=1, used: pods=3"},
		"a number of pods not reached":      {newPod("", ""), nil, quota("q", "pods=3", "pods=2"), ""},
		"a number of objects reached":       {newPod("", ""), nil, quota("q", "count/pods=1", "count/pods=1"), "requested: count/pods=1"},
		"a number of other objects reached": {newPod("", ""), nil, quota("q", "count/secrets=1", "count/secrets=1"), ""},
		"an extended resource": {newPod("example.com/gpu=2", "example.com/gpu=2"), nil,
			quota("q", "requests.example.com/gpu=1", "requests.example.com/gpu=0"), "requested: requests.example.com/gpu=2"},
		"a resource that the pod does not use, already exceeded": {newPod("cpu=1", ""), nil,
			quota("q", "requests.cpu=2,requests.example.com/gpu=1", "requests.cpu=0,requests.example.com/gpu=3"), ""},
		"no request at all, while one is exceeded": {newPod("cpu=0", ""), nil, quota("q", "requests.cpu=1", "requests.cpu=3"), ""},

		"best effort, in its scope": {newPod("", ""), nil, quota("q", "pods=0", "pods=0", corev1.ResourceQuotaScopeBestEffort), "exceeded quota"},
		"not best effort, out of its scope": {newPod("cpu=1", ""), nil, quota("q", "pods=0", "pods=0", corev1.ResourceQuotaScopeBestEffort),
			""},
		"without an end, in its scope": {newPod("", ""), nil, quota("q", "pods=0", "pods=0", corev1.ResourceQuotaScopeNotTerminating), "exceeded quota"},
		"with an end, out of its scope": {newPod("", "", ends), nil, quota("q", "pods=0", "pods=0", corev1.ResourceQuotaScopeNotTerminating),
			""},
		"with an end, in its scope": {newPod("", "", ends), nil, quota("q", "pods=0", "pods=0", corev1.ResourceQuotaScopeTerminating), "exceeded quota"},
		"one scope of two": {newPod("cpu=1", ""), nil,
			quota("q", "pods=0", "pods=0", corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort), ""},
		"affinity to pods of other namespaces, in its scope": {newPod("", "", across), nil,
			quota("q", "pods=0", "pods=0", corev1.ResourceQuotaScopeCrossNamespacePodAffinity), "exceeded quota"},
		"no affinity to pods of other namespaces, out of its scope": {newPod("", ""), nil,
			quota("q", "pods=0", "pods=0", corev1.ResourceQuotaScopeCrossNamespacePodAffinity), ""},
		"the priority class of a scope": {newPod("", "", of("high")), nil, onlyClass(quota("q", "pods=0", "pods=0"), "high"), "exceeded quota"},
		"another priority class":        {newPod("", ""), nil, onlyClass(quota("q", "pods=0", "pods=0"), "high"), ""},

		"usage not known yet": {newPod("", ""), nil, quota("q", "pods=3", ""), "status unknown for quota: q, resources: pods"},
		"usage not known, with pods on their way": {newPod("", ""), pods(newPod("", "")), quota("q", "pods=3", ""),
			"status unknown for quota: q, resources: pods"},
		"a quota that nobody has worked out yet": {newPod("", ""), nil,
			&corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: amounts("pods=0")}}, ""},
		"what is written in the spec does not count before the status says it": {newPod("", ""), nil, &corev1.ResourceQuota{
			Spec:   corev1.ResourceQuotaSpec{Hard: amounts("pods=9")},
			Status: corev1.ResourceQuotaStatus{Hard: amounts("pods=1"), Used: amounts("pods=1")},
		}, "exceeded quota"},

		"pods on their way that leave room": {newPod("cpu=1", ""), pods(newPod("cpu=1", ""), newPod("cpu=1", "")),
			quota("q", "requests.cpu=4,pods=4", "requests.cpu=1,pods=1"), ""},
		"pods on their way that take the last": {newPod("cpu=2", ""), pods(newPod("cpu=1", ""), newPod("cpu=1", "")),
			quota("q", "requests.cpu=4", "requests.cpu=1"), "requested: requests.cpu=2, used: requests.cpu=3, limited: requests.cpu=4"},
		"pods on their way that are out of scope": {newPod("", ""), pods(newPod("cpu=1", ""), newPod("", "", ends)),
			quota("q", "pods=1", "pods=0", corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotTerminating), ""},
		"pods on their way that are in scope": {newPod("", ""), pods(newPod("", "")),
			quota("q", "pods=1", "pods=0", corev1.ResourceQuotaScopeBestEffort), "exceeded quota"},
		"pods that are being deleted above": {newPod("", "", beingDeleted), pods(newPod("", "", beingDeleted)),
			quota("q", "pods=1", "pods=0"), "exceeded quota"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			given := append([]*corev1.Pod{c.pod}, c.onTheirWay...)
			podsBefore, quotaBefore := copies(given), c.quota.DeepCopy()
			err := Quota(c.pod, c.onTheirWay, []*corev1.ResourceQuota{c.quota})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if diff := cmp.Diff(podsBefore, given) + cmp.Diff(quotaBefore, c.quota); diff != "" {
				t.Errorf("Quota changed what it was given:\n%s", diff)
			}
		})
	}
}

func copies(pods []*corev1.Pod) []*corev1.Pod {
	var all []*corev1.Pod
	for _, pod := range pods {
		all = append(all, pod.DeepCopy())
	}
	return all
}

func TestEveryQuotaIsChecked(t *testing.T) {
	t.Parallel()
	wide, narrow := quota("a", "requests.cpu=8", "requests.cpu=0"), quota("b", "requests.cpu=1", "requests.cpu=0")
	for _, quotas := range [][]*corev1.ResourceQuota{{wide, narrow}, {narrow, wide}} {
		if err := Quota(newPod("cpu=2", ""), nil, quotas); err == nil || !strings.Contains(err.Error(), "exceeded quota: b") {
			t.Errorf("error %v, want one that names quota b", err)
		}
	}
}

func TestNoQuotaIsNoBound(t *testing.T) {
	t.Parallel()
	if err := Quota(newPod("cpu=1000", ""), []*corev1.Pod{newPod("", "")}, nil); err != nil {
		t.Error(err)
	}
}

// What a quota counts includes the defaults that a LimitRange gives.
func TestQuotaOfWhatLimitReturns(t *testing.T) {
	t.Parallel()
	quotas := []*corev1.ResourceQuota{quota("q", "limits.cpu=4", "limits.cpu=1")}
	if err := Quota(newPod("", ""), nil, quotas); err == nil {
		t.Error("a pod without a limit entered past a quota on limits")
	}
	limited, err := Limit(newPod("", ""), []*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, Default: amounts("cpu=3")})})
	if err != nil {
		t.Fatal(err)
	}
	if err := Quota(limited, nil, quotas); err != nil {
		t.Errorf("with its default the pod is refused: %v", err)
	}
}

// Pods that Quota lets pass one after the other, none of them created yet, are all admitted, whatever the order in which
// they arrive below.
func TestPromisedPodsAreAdmittedInAnyOrder(t *testing.T) {
	t.Parallel()
	entered, refused := 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		quotas := []*corev1.ResourceQuota{
			quota("amounts", "requests.cpu=8,limits.memory=8Gi", "requests.cpu=1,limits.memory=1Gi"),
			quota("effort", "pods=3", "pods=1", corev1.ResourceQuotaScopeBestEffort),
			quota("number", "count/pods=9,requests.example.com/gpu=3", "count/pods=1,requests.example.com/gpu=0"),
		}[r.IntN(3):]
		var promised []*corev1.Pod
		for i := range 12 {
			pod := newPod(randomAmounts(r, containerLevel), randomAmounts(r, containerLevel))
			pod.Name = fmt.Sprintf("p%d", i)
			if Quota(pod, promised, quotas) == nil {
				promised = append(promised, pod)
				entered++
			} else {
				refused++
			}
		}
		r.Shuffle(len(promised), func(i, j int) { promised[i], promised[j] = promised[j], promised[i] })
		stored := make([]corev1.ResourceQuota, len(quotas))
		for i := range quotas {
			stored[i] = *quotas[i]
		}
		for _, pod := range promised {
			updated, err := resourcequota.CheckRequest(stored, creationOf(pod), core.NewPodEvaluator(nil, nil), nil)
			if err != nil {
				t.Fatalf("seed %d: %s was promised, and the API server says: %v", seed, pod.Name, err)
			}
			stored = updated
		}
	}
	if entered < 500 || refused < 500 {
		t.Errorf("%d entered and %d were refused: the random objects test too little", entered, refused)
	}
}
