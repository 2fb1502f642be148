package pods

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tessera-k8s/tessera/internal/ask"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/hints"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// journal is an extender that knows of no hold, and notes what it is asked to avoid.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) extender(t *testing.T, status int) *ask.Extender {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/avoid" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		var body struct {
			Owner           struct{ Kind, Name, UID string }
			Cluster, Reason string
			Seconds         int
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Seconds < 1 {
			t.Errorf("body %+v, %v", body, err)
		}
		j.add("avoid " + body.Owner.Kind + " " + body.Owner.UID + " " + body.Cluster + " " + body.Reason)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return extenderAt(server.URL)
}

// A pod whose name is taken below goes elsewhere: the cluster is avoided first, then it is evicted.
func TestNameConflictGivesWay(t *testing.T) {
	t.Parallel()
	owned := controlledBy("StatefulSet", "s")
	avoid, evict := "avoid StatefulSet s v NameConflict", "evict"
	for name, c := range map[string]struct {
		pod      *corev1.Pod
		extender int // its answer; 0 is none configured
		budget   bool
		steps    int
		want     []string
	}{
		"of a controller":                     {upperPod("1", owned), 204, false, 1, []string{avoid, evict}},
		"of a controller, it comes back here": {upperPod("1", owned), 204, false, 3, []string{avoid, evict}},
		"a bare pod":                          {upperPod("1"), 204, false, 2, nil},
		"no extender":                         {upperPod("1", owned), 0, false, 2, nil},
		"the extender does not take it":       {upperPod("1", owned), 500, false, 2, []string{avoid, avoid}},
		"a budget is in the way":              {upperPod("1", owned), 204, true, 2, []string{avoid, evict, avoid, evict}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			foreign := lowerPod("1", func(p *corev1.Pod) { delete(p.Labels, keys.Upper) })
			b, journal := newBed(t, []runtime.Object{c.pod}, []runtime.Object{foreign}), &journal{}
			if c.extender != 0 {
				extender := journal.extender(t, c.extender)
				b.Avoid = extender.Avoid
				b.Hints = hints.New(extender, func(string) hints.Mode { return hints.Nominated }, time.Now)
			}
			b.upper.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
				if action.GetSubresource() != "eviction" {
					return false, nil, nil
				}
				journal.add(evict)
				if c.budget {
					return true, nil, apierrors.NewTooManyRequests("budget", 1)
				}
				return true, nil, nil
			})
			for range c.steps {
				b.sees(t)
				_ = b.step(t) // What is not done is an error and tried again.
			}
			if diff := cmp.Diff(c.want, journal.lines); diff != "" {
				t.Error(diff)
			}
			b.sees(t)
			if shown := pair.Condition(b.podAbove("ns/p"), keys.LowerCreated); shown == nil || shown.Reason != string(keys.NameConflict) {
				t.Errorf("shown above: %+v", shown)
			}
			if got := calls(b.lower); cmp.Diff(set(got), map[string]bool{"create pods": true}) != "" {
				t.Errorf("the pod below was touched: %v", got)
			}
		})
	}
}
