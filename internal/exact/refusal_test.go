package exact

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/tessera-k8s/tessera/internal/keys"
)

func TestEveryRefusalHasItsReason(t *testing.T) {
	t.Parallel()
	for refusal, want := range map[Refusal]keys.Reason{
		{"NodeUnschedulable", ""}: keys.Taint,
		{"NodeName", ""}:          keys.NodeAffinity,
		{"TaintToleration", ""}:   keys.Taint,
		{"NodeAffinity", ""}:      keys.NodeAffinity,
		{"NodePorts", ""}:         keys.HostPort,
		{"NodeResourcesFit", "Too many pods, Insufficient cpu"}:         keys.InsufficientPods,
		{"NodeResourcesFit", "Insufficient cpu, Insufficient memory"}:   keys.InsufficientCPU,
		{"NodeResourcesFit", "Insufficient memory"}:                     keys.InsufficientMemory,
		{"NodeResourcesFit", "Insufficient ephemeral-storage"}:          keys.InsufficientEphemeralStorage,
		{"NodeResourcesFit", "Insufficient example.com/gpu"}:            keys.InsufficientExtendedResource,
		{"NodeResourcesFit", "Insufficient example.com/cpu, and so on"}: keys.InsufficientExtendedResource,
		{"VolumeRestrictions", ""}:                                      keys.Volume,
		{"NodeVolumeLimits", ""}:                                        keys.Volume,
		{"VolumeBinding", ""}:                                           keys.Volume,
		{"VolumeZone", ""}:                                              keys.Volume,
		{"PodTopologySpread", ""}:                                       keys.Spread,
		{"InterPodAffinity", ""}:                                        keys.PodAffinity,
		{"DynamicResources", ""}:                                        keys.Claim,
		{"NodeDeclaredFeatures", ""}:                                    keys.NodeAffinity,
	} {
		if got := refusal.Reason(); got != want {
			t.Errorf("%s: got reason %s, want %s", refusal, got, want)
		}
	}
}

// A Kubernetes upgrade that adds a filter is to be noticed: it needs a reason, may need further Objects, and
// internal/snapshot has to know it.
func TestTheFiltersOfTheDefaultProfile(t *testing.T) {
	t.Parallel()
	fw, err := newFramework(ended(), &Objects{}, internalcache.NewEmptySnapshot())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, plugin := range fw.ListPlugins().Filter.Enabled {
		got = append(got, plugin.Name)
	}
	want := []string{
		"NodeName", "NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions",
		"NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "DynamicResources", "NodeDeclaredFeatures",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("filters differ (-want +got):\n%s", diff)
	}
}

// panicking is a profile with a plugin that one odd object brings down.
type panicking struct{ framework.Framework }

func (panicking) RunPreFilterPlugins(context.Context, fwk.CycleState, *corev1.Pod) (*fwk.PreFilterResult, *fwk.Status, sets.Set[string]) {
	panic("odd object")
}

func TestAPanicOfAPluginIsAnError(t *testing.T) {
	t.Parallel()
	cluster, err := NewCluster(Objects{Nodes: []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	working := cluster.fw
	cluster.fw = panicking{working}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	fits, refused, err := cluster.Filter(t.Context(), pod)
	if err == nil || !strings.Contains(err.Error(), "panic: odd object") || fits != nil || refused != nil {
		t.Errorf("got fits %v, refused %v, error %v; want nothing but the error of a panic", fits, refused, err)
	}
	if err := cluster.Hold(t.Context(), pod, "a"); err == nil || !strings.Contains(err.Error(), "panic: odd object") {
		t.Errorf("holding: got error %v, want that of a panic", err)
	}
	cluster.fw = working
	if _, _, err := cluster.Filter(t.Context(), pod); err != nil {
		t.Errorf("the next pod: got error %v", err)
	}
}
