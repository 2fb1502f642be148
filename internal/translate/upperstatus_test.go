package translate

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestEveryStatusField gives every field of a pod's status one value above and another below.
func TestEveryStatusField(t *testing.T) {
	t.Parallel()
	owners := map[string]string{
		"observedGeneration": "above", // As long as it cannot be translated: TestGenerations.
		"phase":              "below", "message": "below", "reason": "below", "startTime": "below",
		"conditions":        "both", // TestConditionsHaveOneOwner
		"nominatedNodeName": "above",
		"hostIP":            "below if shown", "hostIPs": "below if shown", "podIP": "below if shown", "podIPs": "below if shown",
		"initContainerStatuses": "below", "containerStatuses": "below", "ephemeralContainerStatuses": "below", "volumeHealth": "below",
		"qosClass": "above",
		"resize":   "below", "allocatedResources": "below", "resources": "below",
		"resourceClaimStatuses": "above", "extendedResourceClaimStatus": "above", "nodeAllocatableResourceClaimStatuses": "above",
	}
	kind := reflect.TypeFor[corev1.PodStatus]()
	for i := range kind.NumField() {
		name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
		upper, lower := &corev1.Pod{}, &corev1.Pod{}
		fill(reflect.ValueOf(lower).Elem().FieldByName("Status").Field(i), "")
		upper.Spec.Containers = []corev1.Container{{Name: "x"}}
		upper.Spec.InitContainers = upper.Spec.Containers
		upper.Spec.Volumes = []corev1.Volume{{Name: "x"}}
		below := func(shown bool) bool {
			got := UpperStatus(upper, lower, shown)
			return cmp.Equal(reflect.ValueOf(got).Field(i).Interface(), reflect.ValueOf(lower.Status).Field(i).Interface())
		}
		above := func() bool {
			got := UpperStatus(lower, upper, true)
			return cmp.Equal(reflect.ValueOf(got).Field(i).Interface(), reflect.ValueOf(lower.Status).Field(i).Interface())
		}
		var fine bool
		switch owners[name] {
		case "below":
			fine = below(true) && below(false) && !above()
		case "below if shown":
			fine = below(true) && !below(false) && !above()
		case "above":
			fine = !below(true) && above()
		case "both":
			fine = true
		default:
			t.Errorf("status.%s is new in this version of Kubernetes: decide whether the upper pod's or the lower pod's is told, "+
				"make UpperStatus do so, and add it to this test", name)
			continue
		}
		if !fine {
			t.Errorf("status.%s is %s in this test; told from below: %t, with addresses: %t; kept above: %t", name, owners[name], below(false), below(true), above())
		}
	}
}

// A condition that somebody above set stays; one that a kubelet sets goes when the lower pod has it no more.
func TestConditionsHaveOneOwner(t *testing.T) {
	t.Parallel()
	type kinds []corev1.PodConditionType
	cases := map[string]struct {
		upper, lower kinds
		want         []corev1.PodCondition
	}{
		"of a controller above":      {kinds{"example.com/x"}, nil, conditions("above", "example.com/x")},
		"of a controller below":      {nil, kinds{"example.com/x"}, conditions("below", "example.com/x")},
		"of controllers on both":     {kinds{"example.com/x"}, kinds{"example.com/x"}, conditions("below", "example.com/x")},
		"readiness gate":             {kinds{"example.com/gate"}, kinds{"example.com/gate"}, conditions("above", "example.com/gate")},
		"readiness gate, below only": {nil, kinds{"example.com/gate"}, conditions("below", "example.com/gate")},
		"disruption above":           {kinds{corev1.DisruptionTarget}, nil, conditions("above", corev1.DisruptionTarget)},
		"disruption below":           {nil, kinds{corev1.DisruptionTarget}, conditions("below", corev1.DisruptionTarget)},
		"disruption on both":         {kinds{corev1.DisruptionTarget}, kinds{corev1.DisruptionTarget}, conditions("above", corev1.DisruptionTarget)},
		"a resize":                   {nil, kinds{corev1.PodResizeInProgress}, conditions("below", corev1.PodResizeInProgress)},
		"a resize that is over":      {kinds{corev1.PodResizePending}, nil, nil},
		"a refusal that is over":     {kinds{keys.LowerPlaced}, nil, nil},
		"scheduled above, not below": {kinds{corev1.PodScheduled}, nil, conditions("above", corev1.PodScheduled)},
		"scheduled twice": {kinds{corev1.PodScheduled}, kinds{corev1.PodScheduled},
			append(conditions("below", keys.LowerScheduled), conditions("above", corev1.PodScheduled)...)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upper := &corev1.Pod{Status: corev1.PodStatus{Conditions: conditions("above", c.upper...)}}
			upper.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
			got := UpperStatus(upper, &corev1.Pod{Status: corev1.PodStatus{Conditions: conditions("below", c.lower...)}}, false)
			if diff := cmp.Diff(c.want, got.Conditions); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func conditions(reason string, kinds ...corev1.PodConditionType) []corev1.PodCondition {
	var all []corev1.PodCondition
	for _, kind := range kinds {
		all = append(all, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason})
	}
	return all
}

// The disruption controller above takes DisruptionTarget back after a while; a lower cluster that disrupts then is heard.
func TestDisruptionThatWasTakenBack(t *testing.T) {
	t.Parallel()
	upper := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse}}}}
	lower := &corev1.Pod{Status: corev1.PodStatus{Conditions: conditions("PreemptionByScheduler", corev1.DisruptionTarget)}}
	if diff := cmp.Diff(lower.Status.Conditions, UpperStatus(upper, lower, false).Conditions); diff != "" {
		t.Error(diff)
	}
}

// Endpoints above must go when the lower pod is on its way out, not when it has gone.
func TestPodOnItsWayOutBelow(t *testing.T) {
	t.Parallel()
	asked, grace := metav1.NewTime(time.Unix(100, 0)), int64(30)
	ends := metav1.NewTime(asked.Add(30 * time.Second))
	deleted := metav1.ObjectMeta{DeletionTimestamp: &ends, DeletionGracePeriodSeconds: &grace}
	ready := conditions("", corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized)
	unready := slices.Clone(ready)
	for i := range unready[:2] {
		unready[i].Status, unready[i].Reason, unready[i].LastTransitionTime = corev1.ConditionFalse, "LowerPodTerminating", asked
		unready[i].Message = "The pod is being deleted in its lower cluster"
	}
	failing := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"}}
	for name, c := range map[string]struct {
		upper, lower metav1.ObjectMeta
		given, want  []corev1.PodCondition
	}{
		"nobody deletes":    {metav1.ObjectMeta{}, metav1.ObjectMeta{}, ready, ready},
		"below alone":       {metav1.ObjectMeta{}, deleted, ready, unready},
		"above too":         {deleted, deleted, ready, ready},
		"not ready already": {metav1.ObjectMeta{}, deleted, failing, failing},
	} {
		lower := &corev1.Pod{ObjectMeta: c.lower, Status: corev1.PodStatus{Conditions: c.given}}
		if diff := cmp.Diff(c.want, UpperStatus(&corev1.Pod{ObjectMeta: c.upper}, lower, false).Conditions); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A webhook below may add containers; above they would make 2/1 ready.
func TestContainersThatAreNotAbove(t *testing.T) {
	t.Parallel()
	upper := &corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "web"}}, InitContainers: []corev1.Container{{Name: "load"}}}}
	status := func(names ...string) []corev1.ContainerStatus {
		var all []corev1.ContainerStatus
		for _, name := range names {
			all = append(all, corev1.ContainerStatus{Name: name, Ready: true})
		}
		return all
	}
	lower := &corev1.Pod{Status: corev1.PodStatus{
		ContainerStatuses: status("mesh", "web"), InitContainerStatuses: status("load", "mesh-init"), EphemeralContainerStatuses: status("debug"),
	}}
	got := UpperStatus(upper, lower, false)
	want := corev1.PodStatus{
		ContainerStatuses: status("web"), InitContainerStatuses: status("load"), EphemeralContainerStatuses: status("debug"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(lower.Status.ContainerStatuses) != 2 || lower.Status.ContainerStatuses[0].Name != "mesh" {
		t.Error("the lower pod has changed")
	}
}

// A generation of the upper pod is told as seen only when the lower kubelet has seen the whole of it.
func TestGenerations(t *testing.T) {
	t.Parallel()
	sized := func(name, cpu string) []corev1.Container {
		size := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		return []corev1.Container{{Name: name, Resources: corev1.ResourceRequirements{Requests: size}}}
	}
	debug := []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
	for name, c := range map[string]struct {
		change func(upper, lower *corev1.Pod)
		want   int64
	}{
		"all below and seen":          {func(_, _ *corev1.Pod) {}, 4},
		"below, not seen yet":         {func(_, lower *corev1.Pod) { lower.Generation = 8 }, 3},
		"a kubelet that tells none":   {func(_, lower *corev1.Pod) { seen(lower, 0) }, 3},
		"not below yet":               {func(upper, _ *corev1.Pod) { upper.Generation = 5 }, 3},
		"below without a note":        {func(_, lower *corev1.Pod) { lower.Annotations = nil }, 3},
		"a size is not below":         {func(upper, _ *corev1.Pod) { upper.Spec.Containers = sized("c", "2") }, 3},
		"a size that is written so":   {func(upper, _ *corev1.Pod) { upper.Spec.Containers = sized("c", "1000m") }, 4},
		"a size that was added below": {func(upper, _ *corev1.Pod) { upper.Spec.Containers[0].Resources = corev1.ResourceRequirements{} }, 4},
		"an init container's size":    {func(upper, _ *corev1.Pod) { upper.Spec.InitContainers = sized("i", "1") }, 3},
		"the pod's own size":          {func(upper, _ *corev1.Pod) { upper.Spec.Resources = &sized("", "1")[0].Resources }, 3},
		"a debug container not below": {func(upper, _ *corev1.Pod) { upper.Spec.EphemeralContainers = debug }, 3},
		"a debug container that is": {func(upper, lower *corev1.Pod) {
			upper.Spec.EphemeralContainers, lower.Spec.EphemeralContainers = debug, debug
		}, 4},
		"pods from before generations":  {func(upper, lower *corev1.Pod) { upper.Generation, lower.Generation = 0, 0; seen(lower, 0) }, 3},
		"a note that cannot be read":    {func(_, lower *corev1.Pod) { lower.Annotations[keys.UpperGeneration] = "four" }, 3},
		"more than the upper pod's one": {func(_, lower *corev1.Pod) { lower.Annotations[keys.UpperGeneration] = "5" }, 3},
	} {
		upper := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: 4}, Spec: corev1.PodSpec{Containers: sized("c", "1")}}
		seen(upper, 3)
		lower := lowered(t, upper, Rules{})
		lower.Generation = 7
		seen(lower, 7)
		c.change(upper, lower)
		got := UpperStatus(upper, lower, false)
		if got.ObservedGeneration != c.want || got.Conditions[0].ObservedGeneration != c.want {
			t.Errorf("%s: status %d, condition %d, want %d", name, got.ObservedGeneration, got.Conditions[0].ObservedGeneration, c.want)
		}
		upper.Status = got
		if again := UpperStatus(upper, lower, false); !cmp.Equal(got, again) {
			t.Errorf("%s: told again, it differs: %s", name, cmp.Diff(got, again))
		}
	}
}

func seen(pod *corev1.Pod, generation int64) {
	pod.Status.ObservedGeneration = generation
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, ObservedGeneration: generation}}
}

// The API server refuses a status that changes the QoS class, and with it everything else in that write.
func TestQualityOfServiceStays(t *testing.T) {
	t.Parallel()
	class := func(c corev1.PodQOSClass) *corev1.Pod { return &corev1.Pod{Status: corev1.PodStatus{QOSClass: c}} }
	got := UpperStatus(class(corev1.PodQOSBurstable), class(corev1.PodQOSGuaranteed), false)
	if got.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("QoS class %s", got.QOSClass)
	}
}
