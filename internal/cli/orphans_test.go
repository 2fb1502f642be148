package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// orphanServer plays virtualnode with two orphans in paris and one in rome, and keeps what it was asked to collect.
func orphanServer(t *testing.T) (url string, collected *[]string) {
	t.Helper()
	collected = &[]string{}
	mux := http.NewServeMux()
	row := `{"cluster":%q,"namespace":"ns","name":%q,"uid":"l","upperNamespace":"ns","upperName":%q,"upperUid":"u","since":"2026-01-02T03:04:05Z"}`
	paris := fmt.Sprintf(row, "paris", "a", "a") + "," + fmt.Sprintf(row, "paris", "b", "b")
	mux.HandleFunc("GET /debug/orphans", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"orphans":[%s,%s]}`, paris, fmt.Sprintf(row, "rome", "c", "c"))
	})
	mux.HandleFunc("POST /v1/orphans/collect", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*collected = append(*collected, string(body))
		if strings.Contains(string(body), "rome") {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"error":"cluster rome does not answer"}`)
			return
		}
		fmt.Fprintf(w, `{"orphans":[%s]}`, paris)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL, collected
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args     []string
		collects []string
		prints   string
		fails    string
	}{
		"list":                 {args: []string{"list"}, prints: "rome      ns/c"},
		"list as JSON":         {args: []string{"list", "-o", "json"}, prints: `"upperUid": "u"`},
		"dry run":              {args: []string{"collect", "--dry-run"}, prints: "paris     ns/b"},
		"one cluster":          {args: []string{"collect", "--cluster", "paris"}, collects: []string{`{"cluster":"paris"}`}, prints: "paris: 2 orphans are being deleted"},
		"one without any":      {args: []string{"collect", "--cluster", "oslo"}, collects: []string{`{"cluster":"oslo"}`}, prints: "oslo: "}, // Pods may be missing there.
		"all, and one is away": {args: []string{"collect"}, collects: []string{`{"cluster":"paris"}`, `{"cluster":"rome"}`}, fails: "cluster rome does not answer"},
		"another format":       {args: []string{"list", "-o", "xml"}, fails: `"xml" is neither table nor json`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, collected := orphanServer(t)
			var out bytes.Buffer
			command := NewOrphansCommand()
			command.SetArgs(append(c.args, "--virtualnode", url))
			command.SetOut(&out)
			command.SetErr(io.Discard)
			err := command.ExecuteContext(t.Context())
			if (err == nil) != (c.fails == "") || (err != nil && !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want %q", err, c.fails)
			}
			if !strings.Contains(out.String(), c.prints) || !slices.Equal(*collected, c.collects) {
				t.Errorf("collected %v, want %v; printed:\n%s", *collected, c.collects, out.String())
			}
		})
	}
}
