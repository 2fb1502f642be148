package lower

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What informers ask of a silent API server waits for it, or for the end of the watch; what others ask fails at once.
func TestInformersWait(t *testing.T) {
	t.Parallel()
	w := &Watch{}
	silent := errors.New("connection refused")
	config := w.patient(&rest.Config{})
	transport := config.WrapTransport(roundTrip(func(*http.Request) (*http.Response, error) { return nil, silent }))
	ask := func(ctx context.Context, method, query string) chan error {
		done := make(chan error, 1)
		go func() {
			r, _ := http.NewRequestWithContext(ctx, method, "https://lower/api/v1/pods"+query, nil) // Both are well-formed.
			_, err := transport.RoundTrip(r)                                                        //nolint:bodyclose // There is none.
			done <- err
		}()
		return done
	}
	ends := func(what string, done chan error) {
		t.Helper()
		select {
		case err := <-done:
			if !errors.Is(err, silent) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s waits", what)
		}
	}
	urgent, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for what, done := range map[string]chan error{
		"a write": ask(t.Context(), http.MethodPost, ""), "an object": ask(t.Context(), http.MethodGet, "/a"),
		"a list with a deadline": ask(urgent, http.MethodGet, "?resourceVersion=0"),
	} {
		ends(what, done)
	}
	ending, end := context.WithCancel(t.Context())
	watches := map[string]chan error{
		"a watch": ask(t.Context(), http.MethodGet, "?watch=true"), "a list": ask(t.Context(), http.MethodGet, "?resourceVersion=0"),
	}
	ended := ask(ending, http.MethodGet, "?watch=true")
	for what, done := range watches {
		select {
		case <-done:
			t.Errorf("%s fails while nobody answers", what)
		case <-time.After(100 * time.Millisecond):
		}
	}
	end()
	ends("a watch that ends", ended)
	answers := time.NewTicker(10 * time.Millisecond) // More than one: who has only begun to wait hears the next.
	defer answers.Stop()
	go func() {
		for {
			select {
			case <-t.Context().Done():
				return
			case <-answers.C:
				w.contact(nil)
			}
		}
	}()
	for what, done := range watches {
		ends(what, done)
	}
}
