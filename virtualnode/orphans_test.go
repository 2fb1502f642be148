package virtualnode

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/virtualnode/orphans"
)

// What is asked for in vain is refused with a text that says what to do.
func TestOrphanRoutes(t *testing.T) {
	t.Parallel()
	s := &server{whole: upperAnswering("1"), log: slog.New(slog.DiscardHandler)}
	v := &virtualNode{name: "paris", server: s, orphans: orphans.New(time.Minute, s.whole.brokenAt)}
	s.nodes = map[string]*virtualNode{"paris": v}
	v.orphans.Survey([]orphans.Orphan{{Namespace: "ns", Name: "p", UID: "l", UpperUID: "u"}}, 1, time.Now())
	v.orphans.Confirm("l")

	recorder := httptest.NewRecorder()
	s.listOrphans(recorder, httptest.NewRequest(http.MethodGet, "/debug/orphans", nil))
	var listed struct{ Orphans []map[string]any }
	if err := json.Unmarshal(recorder.Body.Bytes(), &listed); err != nil || len(listed.Orphans) != 1 ||
		listed.Orphans[0]["cluster"] != "paris" || listed.Orphans[0]["upperUid"] != "u" || listed.Orphans[0]["uid"] != "l" {
		t.Errorf("%v: %s", err, recorder.Body)
	}

	collect := func(body string) (int, string) {
		recorder := httptest.NewRecorder()
		s.collectOrphans(recorder, httptest.NewRequest(http.MethodPost, "/v1/orphans/collect", strings.NewReader(body)))
		return recorder.Code, recorder.Body.String()
	}
	for body, says := range map[string]string{
		`{`: "not of the form", `{}`: "not of the form", `{"cluster":"rome"}`: `no cluster \"rome\" is served here`,
	} {
		if code, text := collect(body); code != http.StatusBadRequest || !strings.Contains(text, says) {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
	s.whole.silent.Store(true)
	if code, text := collect(`{"cluster":"paris"}`); code != http.StatusConflict || !strings.Contains(text, "upper cluster does not answer") {
		t.Errorf("upper cluster silent: %d %s", code, text)
	}
	if v.orphans.Due("l", time.Now()) {
		t.Error("a refused request has released an orphan")
	}
}

// A replica that waits knows of no orphans, which is not the same as that there are none.
func TestWaitingReplicaAnswersNothing(t *testing.T) {
	t.Parallel()
	election, err := serve.NewElection(serve.LeaderElection{Enabled: true}, slog.New(slog.DiscardHandler), nil, "ns", "lease")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{election: election}
	recorder := httptest.NewRecorder()
	s.working(s.listOrphans).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/debug/orphans", nil))
	if recorder.Code != http.StatusServiceUnavailable || !strings.Contains(recorder.Body.String(), "holds the lease") {
		t.Errorf("%d %s", recorder.Code, recorder.Body)
	}
}
