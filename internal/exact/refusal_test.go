package exact

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"

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
		"NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions",
		"NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "DynamicResources", "NodeDeclaredFeatures",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("filters differ (-want +got):\n%s", diff)
	}
}
