package ask

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tessera-k8s/tessera/internal/wire"
)

// extenderAt is a client of a TLS server, whose CA and a token are in files.
func extenderAt(t *testing.T, handler http.HandlerFunc) (*Extender, string) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	folder := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return &Extender{Daemon: &Daemon{
		Name: "extender", URL: server.URL + "/", Timeout: 10 * time.Second,
		CAFile: write(t, folder, "ca", string(ca)), TokenFile: write(t, folder, "token", "one\n"),
	}}, folder
}

func write(t *testing.T, folder, name, text string) string {
	t.Helper()
	file := filepath.Join(folder, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Tokens are rotated: each question carries the one of that moment.
func TestTokenIsReadForEveryQuestion(t *testing.T) {
	t.Parallel()
	var tokens []string
	extender, folder := extenderAt(t, func(w http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusNoContent)
	})
	for _, token := range []string{"one", "two"} {
		write(t, folder, "token", token)
		if err := extender.Avoid(t.Context(), wire.AvoidRequest{Cluster: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(tokens, ", "); got != "Bearer one, Bearer two" {
		t.Errorf("sent %s", got)
	}
}

// A CA that is rotated is believed from the next question on, and not before.
func TestCAIsReadForEveryQuestion(t *testing.T) {
	t.Parallel()
	extender, folder := extenderAt(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"clusters":[]}`) })
	good, err := os.ReadFile(extender.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		ca   string
		want string // part of the error
	}{{"", "no certificate in"}, {string(good), ""}, {"x", "no certificate in"}, {string(good), ""}} {
		write(t, folder, "ca", step.ca)
		if _, err := extender.Clusters(t.Context()); (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("%v, want %q", err, step.want)
		}
	}
	extender.CAFile = ""
	if _, err := extender.Clusters(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a CA that nobody gave is trusted: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		node   string
		code   int
		err    string
	}{
		"a hold":               {200, `{"cluster":"v","node":"n7","state":"bound","later":1}`, "n7", 0, ""},
		"none":                 {404, `{"error":"no hold of that UID"}`, "", 0, ""},
		"not ready":            {503, `{"error":"NotSynced"}`, "", 503, "asking the extender: 503 Service Unavailable: NotSynced"},
		"a page of a gateway":  {502, "<html>" + strings.Repeat("x", 1<<20), "", 502, "<html>xxx"},
		"refused without text": {401, "", "", 401, "asking the extender: 401 Unauthorized"},
		"nonsense":             {200, `<html>`, "", 0, "reading the extender's answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			extender, _ := extenderAt(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/holds/u" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})
			hold, err := extender.Hold(t.Context(), "u")
			if (hold == nil) != (c.node == "") || hold != nil && hold.Node != c.node {
				t.Errorf("hold %+v, want node %q", hold, c.node)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || Refused(err) != c.code {
				t.Errorf("error %.200v, code %d, want %q, %d", err, Refused(err), c.err, c.code)
			}
			if err != nil && len(err.Error()) > 2*largestRefusal {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// An extender that hangs is given up after Timeout.
func TestTimeout(t *testing.T) {
	t.Parallel()
	extender, _ := extenderAt(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	extender.Timeout = 50 * time.Millisecond
	if _, err := extender.Explain(t.Context(), "ns", "p"); err == nil || Refused(err) != 0 {
		t.Errorf("error %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	extender, folder := extenderAt(t, nil)
	if err := extender.Check(); err != nil {
		t.Error(err)
	}
	for what, broken := range map[string]*Daemon{
		"no CA":      {Name: "extender", CAFile: filepath.Join(folder, "none")},
		"no token":   {Name: "extender", TokenFile: filepath.Join(folder, "none")},
		"a false CA": {Name: "extender", CAFile: extender.TokenFile},
	} {
		if broken.Check() == nil {
			t.Errorf("%s, and no error", what)
		}
	}
}
