package lower

import (
	"testing"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// A verdict is that of the lower scheduler, so each snapshot knows its version. A server that keeps it to itself is no reason
// to do without the cluster.
func TestSnapshotsKnowTheVersion(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	f := follow(t, s)
	f.until(tellsVersion(""))
	s.gitVersion.Store("v1.36.3-vendor.1")
	f.until(tellsVersion("v1.36.3-vendor.1")) // With the next probe.
}

func tellsVersion(want string) func(*snapshot.Snapshot) string {
	return func(now *snapshot.Snapshot) string {
		if got := now.Version().String(); got != want {
			return "the version is " + got + ", want " + want
		}
		return ""
	}
}
