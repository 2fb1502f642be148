package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/manifests"
)

// edges records what a mover does and fails where told to.
type edges struct {
	calls              []string
	avoidErr, evictErr error
	past               []Moved
	pastErr            error
	elsewhere          []string
	whatifErr          error
	noSpare            bool
}

func (e *edges) avoid(_ context.Context, m Move) error {
	e.calls = append(e.calls, "avoid "+m.Owner.Name+" "+m.Cluster)
	return e.avoidErr
}

func (e *edges) evict(_ context.Context, m Move) error {
	e.calls = append(e.calls, "evict "+m.Name)
	return e.evictErr
}

func (e *edges) record(_ context.Context, _ time.Time, m Move) error {
	e.calls = append(e.calls, "record "+m.Name)
	return nil
}

func (e *edges) others(context.Context, Move, *corev1.Pod) ([]string, error) {
	return e.elsewhere, e.whatifErr
}

func (e *edges) pod(context.Context, Move) (*corev1.Pod, error) { return &corev1.Pod{}, nil }

func (e *edges) spares(context.Context, Move) (bool, error) { return !e.noSpare, nil }

func (e *edges) moved(context.Context) ([]Moved, error) { return e.past, e.pastErr }

func newTestMover(e *edges, pods ...Pod) *mover {
	return &mover{
		log: slog.New(slog.DiscardHandler), metrics: newMetrics(), now: func() time.Time { return noon },
		pods: func() []Pod { return pods }, policies: []policy{stuck{after: time.Minute}}, limits: plenty, stay: DefaultStay(),
		extender: e, cluster: e, needsTarget: true, waits: map[types.UID]wait{},
		takes: func(node string, _ *corev1.Pod) bool { return node != "full" },
	}
}

func TestMove(t *testing.T) {
	resource := schema.GroupResource{Resource: "pods"}
	cases := map[string]struct {
		avoidErr, evictErr error
		result             string
		calls              []string
	}{
		"moved":           {nil, nil, resultMoved, []string{"avoid web a", "evict p1", "record p1"}},
		"extender silent": {errors.New("no"), nil, resultAvoidFailed, []string{"avoid web a"}},
		"budget":          {nil, apierrors.NewTooManyRequests("budget", 10), resultThrottled, []string{"avoid web a", "evict p1"}},
		"gone":            {nil, apierrors.NewNotFound(resource, "p1"), resultChanged, []string{"avoid web a", "evict p1"}},
		"changed":         {nil, apierrors.NewConflict(resource, "p1", errors.New("x")), resultChanged, []string{"avoid web a", "evict p1"}},
		"forbidden":       {nil, apierrors.NewForbidden(resource, "p1", errors.New("x")), resultFailed, []string{"avoid web a", "evict p1"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			e := &edges{avoidErr: test.avoidErr, evictErr: test.evictErr, elsewhere: []string{"full", "b"}}
			m := newTestMover(e, stuckPod("shop", "p1", "web", 90))
			m.cycle(t.Context())
			if diff := cmp.Diff(test.calls, e.calls); diff != "" {
				t.Error(diff)
			}
			if got := testutil.ToFloat64(m.metrics.moves.WithLabelValues("stuck", test.result)); got != 1 {
				t.Errorf("%v moves counted as %s", got, test.result)
			}
			if remembered := len(m.past) == 1; remembered != (test.result == resultMoved) {
				t.Errorf("remembered: %v", m.past)
			}
		})
	}
}

// A pod that would do no better elsewhere, or whose controller would fail for it, stays, and is not asked about all the time.
func TestUselessMoves(t *testing.T) {
	for name, c := range map[string]struct {
		edges edges
		want  SkipReason
	}{
		"nowhere else":              {edges{}, NoOtherCluster},
		"elsewhere it is repelled":  {edges{elsewhere: []string{"full"}}, NoOtherCluster},
		"a Job without any to lose": {edges{elsewhere: []string{"b"}, noSpare: true}, JobBackoff},
		"nobody knows":              {edges{whatifErr: errors.New("no")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTestMover(&c.edges, stuckPod("shop", "p1", "web", 90))
			m.cycle(t.Context())
			if c.edges.calls != nil {
				t.Errorf("done: %v", c.edges.calls)
			}
			want := "p1"
			if c.want != "" {
				want += "=" + string(c.want)
			}
			if got := text(m.plan()); got != want {
				t.Errorf("the next plan is %q, want %q", got, want)
			}
			m.now = func() time.Time { return noon.Add(waitFor) }
			if got := text(m.plan()); got != "p1" {
				t.Errorf("later it is %q", got)
			}
		})
	}
}

func TestDryRun(t *testing.T) {
	e := &edges{}
	m := newTestMover(e, stuckPod("shop", "p1", "web", 90), stuckPod("shop", "p2", "shopp2", 90))
	m.dryRun = true
	for range 3 {
		m.cycle(t.Context())
	}
	if e.calls != nil || m.past != nil {
		t.Errorf("a dry run did %v and remembers %v", e.calls, m.past)
	}
	want := `# HELP tessera_rebalance_misplaced_pods Pods that a policy wanted moved in the last plan.
# TYPE tessera_rebalance_misplaced_pods gauge
tessera_rebalance_misplaced_pods 2
# HELP tessera_rebalance_moves_total Moves tried, by policy and result (moved, useless, throttled, changed, avoidFailed, failed; dryRun once a pod).
# TYPE tessera_rebalance_moves_total counter
tessera_rebalance_moves_total{policy="stuck",result="dryRun"} 1
# HELP tessera_rebalance_skipped_total Pods that a policy wanted moved and that stay, by reason; once a pod and reason.
# TYPE tessera_rebalance_skipped_total counter
tessera_rebalance_skipped_total{reason="NoController"} 1
`
	err := testutil.GatherAndCompare(m.metrics.registry, strings.NewReader(want),
		"tessera_rebalance_misplaced_pods", "tessera_rebalance_moves_total", "tessera_rebalance_skipped_total")
	if err != nil {
		t.Error(err)
	}
}

// TestRestartRemembers starts with the moves that events tell of, and does nothing while they cannot be read.
func TestRestartRemembers(t *testing.T) {
	e := &edges{past: []Moved{{At: noon.Add(-time.Minute), Owner: "web", Unplaced: true}}, pastErr: errors.New("no"), elsewhere: []string{"b"}}
	m := newTestMover(e, stuckPod("shop", "p1", "web", 90), stuckPod("shop", "p2", "db", 80))
	m.limits.MaxUnplacedPerHour = 2
	ctx, cancel := context.WithCancel(t.Context())
	cycles := 0
	m.now = func() time.Time { // Called first in every plan.
		if cycles++; e.pastErr != nil {
			t.Error("planned without knowing the past")
		}
		cancel()
		return noon
	}
	if m.remember(ctx) {
		t.Error("an error was taken for the past")
	}
	e.pastErr = nil
	if err := m.run(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"avoid web a", "evict p1", "record p1"}, e.calls); diff != "" || cycles == 0 {
		t.Errorf("%d plans:\n%s", cycles, diff)
	}
}

func TestDebugPlan(t *testing.T) {
	m := newTestMover(&edges{}, stuckPod("shop", "p1", "web", 90), stuckPod("kube-system", "p2", "dns", 90))
	m.dryRun = true
	closed := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	}
	open := func(next http.Handler) http.Handler { return next }
	get := func(path string, guard func(http.Handler) http.Handler) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		newHandler(m, func() error { return errNotSynced }, guard).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	var got any
	if err := json.Unmarshal(get("/debug/plan", open).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"dryRun": true,
		"moves": []any{map[string]any{
			"namespace": "shop", "name": "p1", "uid": "shopp1", "cluster": "a", "policy": "stuck", "reason": "Unschedulable",
			"since": "2026-01-01T11:58:30Z",
			"owner": map[string]any{"kind": "ReplicaSet", "namespace": "shop", "name": "web", "uid": "web"},
		}},
		"skipped": []any{map[string]any{"namespace": "kube-system", "name": "p2", "reason": "ProtectedNamespace"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for path, status := range map[string]int{"/debug/plan": 403, "/metrics": 403, "/healthz": 200, "/readyz": 503, "/other": 404} {
		if got := get(path, closed).Code; got != status {
			t.Errorf("%s: %d, want %d", path, got, status)
		}
	}
}

func TestConfig(t *testing.T) {
	const good = "insecureLoopback: true\ninsecurePort: 1\nextender: https://host:1\n"
	cases := map[string]string{ // "": no error
		good:                                  "",
		good + "dryRun: false\nmaxPerHour: 5": "",
		"insecureLoopback: true\ninsecurePort: 1\ndryRun: true\n":  "",
		"insecureLoopback: true\ninsecurePort: 1\n":                "extender: no URL",
		"insecureLoopback: true\ninsecurePort: 1\ndryRun: false\n": "extender: no URL",
		good + "interva: 1s\n":                                     `"interva"`,
		good + "interval: 5ms\n":                                   "interval: 5ms",
		good + "avoidFor: 48h\n":                                   "avoidFor",
		good + "maxPerCycle: 0\n":                                  "maxPerCycle: 0",
		good + "maxPerOwnerPerHour: -1\n":                          "maxPerOwnerPerHour: -1",
		strings.Replace(good, "https", "ftp", 1):                   "extender: \"ftp:",
		good + "leaderElection: {enabled: true}\nnamespace: ''\n":  "namespace: empty",
		good + "stuckAfterBy: [{reason: Gated}]\n":                 "stuckAfterBy: entry 1",
		"dryRun: true\n":                                           "listen",
	}
	for text, want := range cases {
		err := load(t, []byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// TestShippedConfig reads the file that the manifests mount.
func TestShippedConfig(t *testing.T) {
	data, err := manifests.Files.ReadFile("base/rebalance/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := load(t, data); err != nil {
		t.Error(err)
	}
}

func load(t *testing.T, data []byte) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rebalance.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return serve.Load(file, DefaultConfig())
}

// TestHelpNamesEveryKey keeps --help complete.
func TestHelpNamesEveryKey(t *testing.T) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if key != "" && !strings.Contains("\n"+configHelp, "\n"+key+": ") {
			t.Errorf("--help does not say what %s is", key)
		}
	}
}

func TestRunNamesABadKubeconfig(t *testing.T) {
	config := DefaultConfig()
	for _, file := range []string{filepath.Join(t.TempDir(), "none"), write(t, filepath.Join(t.TempDir(), "broken"), "x: [")} {
		config.UpperKubeconfig = file
		if err := Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("error %v does not name %s", err, file)
		}
	}
}
