package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// flat is a cluster with ranges ("RANGE" or "RANGE of NODE") and addresses of pods.
func flat(cluster string, ranges []string, pods ...string) Addresses {
	a := Addresses{Cluster: cluster}
	for _, r := range ranges {
		r, node, known := strings.Cut(r, " of ")
		if !known {
			node = cluster + r
		}
		a.Ranges = append(a.Ranges, Range{netip.MustParsePrefix(r), types.UID(node)})
	}
	for _, p := range pods {
		a.Pods = append(a.Pods, netip.MustParseAddr(p))
	}
	return a
}

func TestOverlaps(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		clusters []Addresses
		want     map[string]string
	}{
		"nobody":       {nil, map[string]string{}},
		"one":          {[]Addresses{flat("a", []string{"10.0.0.0/24", "10.0.0.0/16"}, "10.0.0.1", "10.0.0.1")}, map[string]string{}},
		"side by side": {[]Addresses{flat("a", []string{"10.0.0.0/24"}, "10.0.0.1"), flat("b", []string{"10.0.1.0/24"}, "10.0.1.1")}, map[string]string{}},
		"two families": {[]Addresses{flat("a", []string{"10.0.0.0/8"}), flat("b", []string{"fd00::/8"})}, map[string]string{}},
		"the same range": {[]Addresses{flat("b", []string{"10.0.0.0/24"}), flat("a", []string{"10.0.0.0/24"})}, map[string]string{
			"a": "pod range 10.0.0.0/24, also of b", "b": "pod range 10.0.0.0/24, also of a"}},
		"one in the other, far apart in order": {[]Addresses{
			flat("a", []string{"10.0.0.0/8"}), flat("b", []string{"10.1.0.0/24"}), flat("c", []string{"10.200.0.0/24", "11.0.0.0/24"})},
			map[string]string{
				"a": "pod range 10.1.0.0/24, also of b", "b": "pod range 10.1.0.0/24, also of a", "c": "pod range 10.200.0.0/24, also of a"}},
		"the same node, by two virtual nodes": {[]Addresses{
			flat("a", []string{"10.0.0.0/24 of one"}), flat("b", []string{"10.0.0.0/24 of one"})}, map[string]string{}},
		"IPv6": {[]Addresses{flat("a", []string{"fd00::/64"}), flat("b", []string{"fd00::/56"})}, map[string]string{
			"a": "pod range fd00::/64, also of b", "b": "pod range fd00::/64, also of a"}},
		"a pod in both": {[]Addresses{flat("a", nil, "10.0.0.9", "10.0.0.2"), flat("b", nil, "10.0.0.2", "10.0.0.9"), flat("c", nil, "10.0.0.3")},
			map[string]string{"a": "address 10.0.0.2, also of b", "b": "address 10.0.0.2, also of a"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, Overlaps(c.clusters)); diff != "" {
				t.Error(diff)
			}
			slices.Reverse(c.clusters)
			if diff := cmp.Diff(c.want, Overlaps(c.clusters)); diff != "" {
				t.Errorf("the other way round: %s", diff)
			}
		})
	}
}

func TestOwnAddresses(t *testing.T) {
	t.Parallel()
	at := func(phase corev1.PodPhase, host bool, ips ...string) *corev1.Pod {
		pod := &corev1.Pod{Spec: corev1.PodSpec{HostNetwork: host}, Status: corev1.PodStatus{Phase: phase}}
		for _, ip := range ips {
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
		}
		return pod
	}
	got := OwnAddresses([]*corev1.Pod{
		at(corev1.PodRunning, false, "10.0.0.1", "fd00::1"), at(corev1.PodRunning, true, "192.168.0.1"),
		at(corev1.PodSucceeded, false, "10.0.0.2"), at(corev1.PodFailed, false, "10.0.0.3"), at(corev1.PodPending, false, "nonsense"),
	})
	want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "n"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.0.0.7/24", "nonsense"}}}
	if got := Ranges([]*corev1.Node{node}); len(got) != 1 || got[0] != (Range{netip.MustParsePrefix("10.0.0.0/24"), "n"}) {
		t.Errorf("got %v", got)
	}
}

// The condition comes, stays with its time, and goes.
func TestNetworkOverlapCondition(t *testing.T) {
	t.Parallel()
	f := Facts{Name: "v", Health: healthy(), Snapshot: nodes(lowerNode("a")), More: []corev1.NodeCondition{Flat("")}}
	f.before = f.node(now)
	f.More = []corev1.NodeCondition{Flat("address 10.0.0.2, also of b")}
	later := now.Add(1000)
	got := f.node(later).Status.Conditions[2]
	if got.Type != keys.NetworkOverlap || got.Status != corev1.ConditionTrue || !got.LastTransitionTime.Time.Equal(later) {
		t.Errorf("got %+v", got)
	}
	f.before = f.node(later)
	if again := f.node(later.Add(1000)).Status.Conditions[2]; !again.LastTransitionTime.Time.Equal(later) {
		t.Errorf("the time moved: %+v", again)
	}
}
