package virtualnode_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/lab/realnode"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// envConformance is set by make conformance: all specs, and what became of them goes into docs/conformance.md.
const envConformance = "TESSERA_CONFORMANCE"

// fewSpecs are Kubernetes' own that every change runs: what virtualnode does for pods, one of each kind, and none that takes long.
var fewSpecs = []string{
	"[sig-node] Downward API should provide pod name, namespace and IP address as env vars [Conformance] [NodeConformance]",
	"[sig-node] Secrets should be consumable from pods in env vars [Conformance] [NodeConformance]",
	"[sig-node] ConfigMap should be consumable via the environment [Conformance] [NodeConformance]",
	"[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs [Conformance] [NodeConformance]",
	"[sig-node] Pods should be submitted and removed [Conformance] [NodeConformance]",
	"[sig-node] Pods should support remote command execution over websockets [Conformance] [NodeConformance]",
	"[sig-node] InitContainer should invoke init containers on a RestartNever pod [Conformance] [NodeConformance]",
	"[sig-node] Ephemeral Containers will start an ephemeral container in an existing pod [Conformance] [NodeConformance]",
	"[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status [Conformance] [NodeConformance]",
	"[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [Conformance] [NodeConformance]",
}

// spec is one of Kubernetes' own, as ginkgo reports it.
type spec struct {
	Name, State, Message string
	Labels               []string
}

// Kubernetes' own specs of pods and their network, through the upper API server, in namespaces that have opted in.
func TestRealConformance(t *testing.T) {
	w := newNetworkedWorld(t)
	t.Parallel()
	program, err := w.lab.ImportE2E(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	suite := &specs{lab: w.lab, program: program, dir: t.TempDir()}
	if os.Getenv(envConformance) != "" {
		suite.whole(t)
		return
	}
	ran, err := suite.runAll(t.Context(), fewSpecs, 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range ran {
		if s.State != "passed" {
			t.Errorf("%s: %s: %s", s.Name, s.State, s.Message)
		}
	}
	if len(ran) != len(fewSpecs) {
		t.Errorf("%d specs ran of %d: a name that is none?", len(ran), len(fewSpecs))
	}
}

// whole runs all that apply, and writes down what became of them.
func (s *specs) whole(t *testing.T) {
	t.Helper()
	all, err := s.run(t.Context(), "list", "--ginkgo.dry-run")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range all {
		if one.left() == "" && one.applies() == "" {
			names = append(names, one.Name)
		}
	}
	ran, err := s.runAll(t.Context(), names, 10)
	if err != nil {
		t.Fatal(err)
	}
	verdicts, faults := judge(all, ran)
	for _, fault := range faults {
		t.Error(fault)
	}
	if err := writeConformance(verdicts); err != nil {
		t.Fatal(err)
	}
}

// specs runs Kubernetes' own.
type specs struct {
	lab          *lab.Lab
	program, dir string
}

// runAll runs specs, so many at a time.
func (s *specs) runAll(ctx context.Context, names []string, at int) (results []spec, err error) {
	parts := make([][]spec, at)
	group, ctx := errgroup.WithContext(ctx)
	for i := range at {
		var focus []string
		for k := i; k < len(names); k += at {
			focus = append(focus, regexp.QuoteMeta(names[k])+"$") // Before it stands the name of the suite.
		}
		if len(focus) == 0 {
			continue
		}
		group.Go(func() (err error) {
			parts[i], err = s.run(ctx, fmt.Sprint("part-", i), "--ginkgo.focus="+strings.Join(focus, "|"))
			return err
		})
	}
	err = group.Wait()
	return slices.Concat(parts...), err
}

// run runs the program once, and returns the specs that were not skipped.
func (s *specs) run(ctx context.Context, name string, args ...string) ([]spec, error) {
	registries := filepath.Join(s.dir, name+"-registries.yaml")
	text := fmt.Sprintf("gcRegistry: %[1]s\npromoterE2eRegistry: %[1]s\n", realnode.E2ERegistry)
	if err := os.WriteFile(registries, []byte(text), 0o600); err != nil {
		return nil, err
	}
	report := filepath.Join(s.dir, name+".json")
	command := exec.CommandContext(ctx, s.program, append([]string{
		"--kubeconfig=" + s.lab.UpperKubeconfig(), "--kube-test-repo-list=" + registries, "--namespace-label=" + keys.Enabled + "=true",
		"--hide-taint=" + keys.VirtualTaint, "--hostname-suffix=" + strings.TrimPrefix(s.lab.NodeName(1, 1), s.lab.LowerName(1)), "--kube-api-content-type=application/json", "--dump-logs-on-failure=false", "--ginkgo.json-report=" + report, "--ginkgo.no-color",
		"--ginkgo.skip=^$", "--ginkgo.timeout=1h",
	}, args...)...)
	out, err := command.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) { // That specs failed is in the report.
		return nil, err
	}
	data, err := os.ReadFile(report)
	if err != nil {
		return nil, fmt.Errorf("no report: %w: %s", err, bytes.TrimSpace(out[max(0, len(out)-4096):]))
	}
	return parseReport(data)
}

// parseReport reads a report of ginkgo's.
func parseReport(data []byte) (found []spec, err error) {
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts  []string
			ContainerHierarchyLabels [][]string
			LeafNodeType             string
			LeafNodeText             string
			LeafNodeLabels           []string
			State                    string
			Failure                  struct{ Message string }
		}
	}
	if err := json.Unmarshal(data, &suites); err != nil {
		return nil, fmt.Errorf("reading a report: %w", err)
	}
	for _, suite := range suites {
		for _, r := range suite.SpecReports {
			if r.LeafNodeType != "It" || r.State == "skipped" && r.Failure.Message == "" {
				continue
			}
			found = append(found, spec{
				Name: strings.Join(append(r.ContainerHierarchyTexts, r.LeafNodeText), " "), State: r.State, Message: r.Failure.Message,
				Labels: slices.Concat(slices.Concat(r.ContainerHierarchyLabels...), r.LeafNodeLabels),
			})
		}
	}
	return found, nil
}

// left is why a spec that applies is not run, "" where it is.
func (s *spec) left() string {
	for _, label := range []string{"Slow", "Serial", "Disruptive", "Flaky"} {
		if strings.Contains(s.Name, "["+label+"]") && s.applies() == "" {
			return label
		}
	}
	return ""
}

// applies is why a spec does not apply to a lab, "" where it does.
func (s *spec) applies() string {
	for _, label := range s.Labels {
		if strings.HasPrefix(label, "Feature:") {
			return label
		}
	}
	if strings.Contains(s.Name, "Windows") {
		return "Windows"
	}
	return ""
}
