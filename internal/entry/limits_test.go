package entry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

const (
	ofContainer = corev1.LimitTypeContainer
	ofPod       = corev1.LimitTypePod
)

func TestLimitGivesDefaults(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		pod    *corev1.Pod
		ranges []*corev1.LimitRange
		want   *corev1.Pod
	}{
		"a default request and a default limit": {
			newPod("", ""),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer,
				Default: amounts("cpu=2,memory=2Gi"), DefaultRequest: amounts("cpu=1,memory=1Gi")})},
			newPod("cpu=1,memory=1Gi", "cpu=2,memory=2Gi"),
		},
		"a default limit alone is the request too": {
			newPod("", ""),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, Default: amounts("cpu=2")})},
			newPod("cpu=2", "cpu=2"),
		},
		"a default request alone gives no limit": {
			newPod("", ""),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, DefaultRequest: amounts("cpu=1")})},
			newPod("cpu=1", ""),
		},
		"a maximum alone is the default": {
			newPod("", ""),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, Max: amounts("memory=4Gi")})},
			newPod("memory=4Gi", "memory=4Gi"),
		},
		"a minimum alone is the default request": {
			newPod("", ""),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, Min: amounts("cpu=100m")})},
			newPod("cpu=100m", ""),
		},
		"what the pod says stays, also a zero": {
			newPod("cpu=0,memory=1Gi", "cpu=1"),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, Default: amounts("cpu=2,memory=2Gi")})},
			newPod("cpu=0,memory=1Gi", "cpu=1,memory=2Gi"),
		},
		"init containers and sidecars as well": {
			newPod("", "", withInit(container("first", "", ""), sidecar("side", "cpu=3", ""))),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, DefaultRequest: amounts("cpu=1")})},
			newPod("cpu=1", "", withInit(container("first", "cpu=1", ""), sidecar("side", "cpu=3", ""))),
		},
		"claims of a container stay": {
			newPod("", "", func(pod *corev1.Pod) {
				pod.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}}
			}),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, DefaultRequest: amounts("cpu=1")})},
			newPod("cpu=1", "", func(pod *corev1.Pod) {
				pod.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}}
			}),
		},
		"the pod level gets none": {
			newPod("", "", withPodLevel("cpu=4", "cpu=4")),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, DefaultRequest: amounts("cpu=1,memory=1Gi")})},
			newPod("cpu=1,memory=1Gi", "", withPodLevel("cpu=4", "cpu=4")),
		},
		"several ranges add up, and of two defaults the first by name counts": {
			newPod("", ""),
			[]*corev1.LimitRange{
				limitRange("b", corev1.LimitRangeItem{Type: ofContainer, DefaultRequest: amounts("cpu=2,memory=2Gi")}),
				limitRange("a", corev1.LimitRangeItem{Type: ofContainer, DefaultRequest: amounts("cpu=1")}),
			},
			newPod("cpu=1,memory=2Gi", ""),
		},
		"extended resources": {
			newPod("", ""),
			[]*corev1.LimitRange{limitRange("a", corev1.LimitRangeItem{Type: ofContainer, Default: amounts("example.com/gpu=1")})},
			newPod("example.com/gpu=1", "example.com/gpu=1"),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := c.pod.DeepCopy()
			got, err := Limit(c.pod, c.ranges)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("the pod below differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, c.pod); diff != "" {
				t.Errorf("Limit changed the pod it was given:\n%s", diff)
			}
		})
	}
}

func TestLimitRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		pod  *corev1.Pod
		item corev1.LimitRangeItem
		want string // "" if the pod may enter
	}{
		"a request over the maximum": {
			newPod("cpu=5", "cpu=5"), corev1.LimitRangeItem{Type: ofContainer, Max: amounts("cpu=4")},
			`pods "p" is forbidden: maximum cpu usage per Container is 4, but limit is 5`,
		},
		"a request at the maximum": {
			newPod("cpu=4", "cpu=4"), corev1.LimitRangeItem{Type: ofContainer, Max: amounts("cpu=4")}, "",
		},
		"a request over the maximum that is its default limit": {
			newPod("cpu=5", ""), corev1.LimitRangeItem{Type: ofContainer, Max: amounts("cpu=4")},
			`Pod "p" is invalid: spec.containers[0].resources.requests: Invalid value: "5": must be less than or equal to cpu limit of 4`,
		},
		"a request under the minimum": {
			newPod("memory=1Mi", ""), corev1.LimitRangeItem{Type: ofContainer, Min: amounts("memory=4Mi")},
			"minimum memory usage per Container is 4Mi, but request is 1Mi",
		},
		"a limit too far over the request": {
			newPod("cpu=1", "cpu=4"), corev1.LimitRangeItem{Type: ofContainer, MaxLimitRequestRatio: amounts("cpu=2")},
			"cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
		},
		"a limit that is near enough to the request": {
			newPod("cpu=2", "cpu=4"), corev1.LimitRangeItem{Type: ofContainer, MaxLimitRequestRatio: amounts("cpu=2")}, "",
		},
		"a ratio where there is no limit": {
			newPod("cpu=1", ""), corev1.LimitRangeItem{Type: ofContainer, MaxLimitRequestRatio: amounts("cpu=2")},
			"but no limit is specified or limit is 0",
		},
		"an init container over the maximum": {
			newPod("", "", withInit(container("first", "cpu=5", "cpu=5"))), corev1.LimitRangeItem{Type: ofContainer, Max: amounts("cpu=4")},
			"maximum cpu usage per Container is 4, but limit is 5",
		},
		"containers that together are over the pod's maximum": {
			newPod("cpu=3", "cpu=3", withMore(container("more", "cpu=3", "cpu=3"))), corev1.LimitRangeItem{Type: ofPod, Max: amounts("cpu=4")},
			"maximum cpu usage per Pod is 4, but limit is 6",
		},
		"a sidecar that runs beside the rest": {
			newPod("cpu=3", "cpu=3", withInit(sidecar("side", "cpu=3", "cpu=3"))), corev1.LimitRangeItem{Type: ofPod, Max: amounts("cpu=4")},
			"maximum cpu usage per Pod is 4, but limit is 6",
		},
		"an init container that runs before the rest": {
			newPod("cpu=3", "cpu=3", withInit(container("first", "cpu=3", "cpu=3"))), corev1.LimitRangeItem{Type: ofPod, Max: amounts("cpu=4")}, "",
		},
		"a bound of the pod gives no default": {
			newPod("cpu=1", ""), corev1.LimitRangeItem{Type: ofPod, Max: amounts("cpu=4")},
			"maximum cpu usage per Pod is 4.  No limit is specified",
		},
		"resources of the pod level over the pod's maximum": {
			newPod("", "", withPodLevel("cpu=5", "cpu=5")), corev1.LimitRangeItem{Type: ofPod, Max: amounts("cpu=4")},
			"maximum cpu usage per Pod is 4, but limit is 5",
		},
		"resources of the pod level under the pod's maximum": {
			newPod("", "", withPodLevel("cpu=4", "cpu=4")), corev1.LimitRangeItem{Type: ofPod, Max: amounts("cpu=4")}, "",
		},
		"defaults of containers that exceed the pod level": {
			newPod("", "", withPodLevel("cpu=1", "cpu=1"), withMore(container("more", "", ""))),
			corev1.LimitRangeItem{Type: ofContainer, DefaultRequest: amounts("cpu=1")},
			"must be greater than or equal to aggregate container requests of 2",
		},
		"a default limit that breaks an extended resource": {
			newPod("example.com/gpu=1", "example.com/gpu=1"),
			corev1.LimitRangeItem{Type: ofContainer, DefaultRequest: amounts("example.com/fpga=1")},
			"Limit must be set for non overcommitable resources",
		},
		"bounds on claims are no matter of pods": {
			newPod("", ""), corev1.LimitRangeItem{Type: corev1.LimitTypePersistentVolumeClaim, Min: amounts("storage=1Gi")}, "",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Limit(c.pod, []*corev1.LimitRange{limitRange("a", c.item)})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			case err != nil && got != nil:
				t.Error("a refused pod was returned")
			}
		})
	}
}

func TestEveryRangeIsChecked(t *testing.T) {
	t.Parallel()
	wide := limitRange("a", corev1.LimitRangeItem{Type: ofContainer, Max: amounts("cpu=8")})
	narrow := limitRange("b", corev1.LimitRangeItem{Type: ofContainer, Max: amounts("memory=8Gi")}, corev1.LimitRangeItem{Type: ofContainer, Max: amounts("cpu=2")})
	for _, ranges := range [][]*corev1.LimitRange{{wide, narrow}, {narrow, wide}} {
		if _, err := Limit(newPod("cpu=4", "cpu=4"), ranges); err == nil {
			t.Errorf("4 CPUs entered past %s and %s, one of which allows 2", ranges[0].Name, ranges[1].Name)
		}
	}
}

// Nothing to add means nothing to copy: this is asked for every pod and every cluster.
func TestLimitReturnsThePodItself(t *testing.T) {
	t.Parallel()
	pod := newPod("cpu=1", "cpu=1")
	for name, ranges := range map[string][]*corev1.LimitRange{
		"without ranges":     nil,
		"with nothing to do": {limitRange("a", corev1.LimitRangeItem{Type: ofContainer, Max: amounts("cpu=4")})},
	} {
		got, err := Limit(pod, ranges)
		if err != nil || got != pod {
			t.Errorf("%s: another pod, or error %v", name, err)
		}
	}
}
