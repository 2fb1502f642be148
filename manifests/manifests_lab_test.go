package manifests_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/manifests"
)

var shared = lab.NewShared(lab.Options{Lower: 1, Nodes: 1})

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// written is a folder with the embedded files.
func written(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, manifests.Files); err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestServerAccepts has real API servers judge what `kubectl apply -k` would send.
func TestServerAccepts(t *testing.T) {
	l := shared.Get(t)
	folder := written(t)
	for name, kubeconfig := range map[string]string{"base": l.UpperKubeconfig(), "lower": l.LowerKubeconfig(1)} {
		t.Run(name, func(t *testing.T) {
			out, err := l.Kubectl(t.Context(), "apply", "--kubeconfig", kubeconfig,
				"--dry-run=server", "--validate=strict", "-k", filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out) {
				// The lab made some of the objects itself, which kubectl notes.
				if strings.Contains(line, "Warning") && !strings.Contains(line, "last-applied-configuration") {
					t.Errorf("the API server warns: %s", line)
				}
			}
			t.Logf("%d objects accepted", strings.Count(out, "(server dry run)"))
		})
	}
}

// TestInstalls applies base. Its pods have to pass what the namespace demands: a Deployment is accepted without.
func TestInstalls(t *testing.T) {
	l := shared.Get(t)
	if _, err := l.Kubectl(t.Context(), "apply", "-k", filepath.Join(written(t), "base")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // No admission runs here, and other tests make pods.
		if _, err := l.Kubectl(context.Background(), "delete", "mutatingwebhookconfiguration", "tessera"); err != nil {
			t.Error(err)
		}
	})
	lab.Eventually(t, time.Minute, func() error {
		out, err := l.Kubectl(t.Context(), "get", "pods", "-n", "tessera-system", "-o", "name")
		if err != nil {
			return err
		}
		for part, replicas := range map[string]int{"extender": 1, "virtualnode": 2, "admission": 2, "rebalance": 1} {
			if got := strings.Count(out, "pod/tessera-"+part+"-"); got != replicas {
				return fmt.Errorf("%d pods of %s, want %d", got, part, replicas)
			}
		}
		return nil
	})
}
