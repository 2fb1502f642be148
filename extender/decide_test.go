package extender

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// The exact path asks the best clusters first and no more than it has to.
func TestEnoughClustersAreAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		clusters string // a letter each, the best first: y and n answer when asked, p is decided by the columns, x does not fit
		enough   int
		asked    string
		want     string // the same letters, h where it was not asked
	}{
		"all are asked while none says yes": {"nnn", 1, "nnn", "nnn"},
		"the first yes is enough":           {"nyyn", 1, "ny", "nyhh"},
		"three are enough":                  {"yynyyy", 3, "yyny", "yynyhh"},
		"the others stand as they are":      {"pxyp", 1, "y", "pxyp"},
		"nobody to ask":                     {"ppx", 3, "", "ppx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var verdicts []verdict
			for _, letter := range c.clusters {
				verdicts = append(verdicts, verdict{Verdict: snapshot.Verdict{Cluster: string(letter), Fits: letter != 'x'}})
			}
			asked := ""
			changed := decideEnough(verdicts, c.enough,
				func(v *verdict) bool { return v.Cluster == "y" || v.Cluster == "n" },
				func(v *verdict) snapshot.Verdict {
					asked += v.Cluster
					return snapshot.Verdict{Cluster: v.Cluster, Fits: v.Cluster == "y"}
				})
			got := ""
			for _, v := range verdicts {
				letter := v.Cluster
				if v.Reason == keys.Held {
					letter = "h"
				}
				got += letter
			}
			if asked != c.asked || got != c.want || changed != (asked != "") {
				t.Errorf("asked %q, verdicts %q, changed %t; want %q and %q", asked, got, changed, c.asked, c.want)
			}
		})
	}
}

// A pod with a claim is not let in blindly while the claims of a cluster are not known: its reason says to wait.
func TestClaimsThatAreNotKnownYet(t *testing.T) {
	e := newTestExtender(t)
	pod := testPod("p", "1")
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}}
	result := e.filterNames(t, pod, "a", "b", "real")
	if diff := cmp.Diff([]string{"real"}, *result.NodeNames); diff != "" {
		t.Errorf("passed: %s", diff)
	}
	for _, name := range []string{"a", "b"} {
		if got := result.FailedAndUnresolvableNodes[name]; got != text(keys.NotSynced) {
			t.Errorf("%s is refused with %q, want %q", name, got, text(keys.NotSynced))
		}
	}
	if status := e.call(t, http.MethodGet, "/v1/holds/uid-p", "", nil); status != http.StatusNotFound {
		t.Errorf("status %d: a refused pod has a hold", status)
	}
}
