package rebalance

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// heard is what a server was sent.
type heard struct{ Method, Path, Query, Token, Body string }

// listen answers every request with the status and body and tells what it heard.
func listen(t *testing.T, status int, body string) (*httptest.Server, *[]heard) {
	t.Helper()
	var all []heard
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		all = append(all, heard{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Authorization"), strings.TrimSpace(string(data))})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server, &all
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func caOf(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

var oneMove = Plan(noon, []Pod{stuckPod("shop", "p1", "web", 90, func(p *Pod) { p.ResourceVersion = "7" })}, nil, plenty, DefaultStay(), stuck{}).Moves[0]

func extenderAt(url, caFile, tokenFile string) *extender {
	config := DefaultConfig()
	config.Extender, config.ExtenderCAFile, config.ExtenderTokenFile = url, caFile, tokenFile
	e := newExtender(config)
	e.Timeout = time.Minute // A busy machine takes its time for a handshake, and what is asked here is never whether it is quick.
	return e
}

func TestAvoid(t *testing.T) {
	server, all := listen(t, http.StatusNoContent, "")
	folder := t.TempDir()
	token := write(t, filepath.Join(folder, "token"), "one\n")
	e := extenderAt(server.URL+"/", write(t, filepath.Join(folder, "ca"), caOf(server)), token)
	if err := e.avoid(t.Context(), oneMove); err != nil {
		t.Fatal(err)
	}
	write(t, token, "two")
	if err := e.avoid(t.Context(), oneMove); err != nil {
		t.Fatal(err)
	}
	body := `{"owner":{"kind":"ReplicaSet","namespace":"shop","name":"web","uid":"web"},"cluster":"a","seconds":600,"reason":"stuck"}`
	want := []heard{{"POST", "/v1/avoid", "", "Bearer one", body}, {"POST", "/v1/avoid", "", "Bearer two", body}}
	if diff := cmp.Diff(want, *all); diff != "" {
		t.Error(diff)
	}
}

func TestAvoidFails(t *testing.T) {
	folder := t.TempDir()
	server, _ := listen(t, http.StatusBadRequest, `{"error":"no such cluster"}`)
	ca := write(t, filepath.Join(folder, "ca"), caOf(server))
	for name, test := range map[string]struct {
		e    *extender
		want string
	}{
		"refused":       {extenderAt(server.URL, ca, ""), "no such cluster"},
		"unknown CA":    {extenderAt(server.URL, "", ""), "certificate"},
		"no CA file":    {extenderAt(server.URL, filepath.Join(folder, "none"), ""), "CA of the extender"},
		"broken CA":     {extenderAt(server.URL, write(t, filepath.Join(folder, "broken"), "x"), ""), "no certificate in"},
		"no token file": {extenderAt(server.URL, ca, filepath.Join(folder, "none")), "token for the extender"},
		"nobody there":  {extenderAt("http://127.0.0.1:1", "", ""), "asking the extender"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.e.avoid(t.Context(), oneMove); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func clusterAt(t *testing.T, server *httptest.Server) *cluster {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: []byte(caOf(server))},
		ContentConfig: rest.ContentConfig{ContentType: "application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{client: client}
}

// TestEvictNamesThePodItJudged: another pod of that name, or this one after a change, must not be evicted.
func TestEvictNamesThePodItJudged(t *testing.T) {
	server, all := listen(t, http.StatusCreated, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
	if err := clusterAt(t, server).evict(t.Context(), oneMove); err != nil {
		t.Fatal(err)
	}
	want := []heard{{Method: "POST", Path: "/api/v1/namespaces/shop/pods/p1/eviction",
		Body: `{"kind":"Eviction","apiVersion":"policy/v1","metadata":{"name":"p1","namespace":"shop"},"deleteOptions":{"preconditions":{"uid":"shopp1","resourceVersion":"7"}}}`}}
	if diff := cmp.Diff(want, *all); diff != "" {
		t.Error(diff)
	}
}

// TestEventsRemember writes an event and reads it back as a past move.
func TestEventsRemember(t *testing.T) {
	server, all := listen(t, http.StatusCreated, `{"kind":"Event","apiVersion":"v1"}`)
	if err := clusterAt(t, server).record(t.Context(), noon, oneMove); err != nil {
		t.Fatal(err)
	}
	event := (*all)[0].Body
	for _, part := range []string{`"reason":"TesseraMoved"`, `"uid":"shopp1"`, `"name":"tessera-moved-shopp1"`} {
		if !strings.Contains(event, part) {
			t.Errorf("event %s lacks %s", event, part)
		}
	}
	server, all = listen(t, http.StatusOK, `{"kind":"EventList","apiVersion":"v1","items":[`+event+`,{"reason":"TesseraMoved"}]}`)
	past, err := clusterAt(t, server).moved(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(past) != 2 || !past[0].At.Equal(noon) || past[0].Owner != "web" || past[1].recent(noon) {
		t.Errorf("past moves: %v", past)
	}
	if got := (*all)[0].Query; !strings.Contains(got, "fieldSelector=reason%3DTesseraMoved") {
		t.Errorf("query %s asks for all events", got)
	}
}
