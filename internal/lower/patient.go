package lower

import (
	"context"
	"net/http"

	"k8s.io/client-go/rest"
)

// patient has the watches of a configuration's clients wait where the API server does not answer, for when it does. An informer that is
// told of every failure comes back up to a minute after its server (k8s.io/client-go/tools/cache, defaultBackoffMax), while the probe
// knows within seconds; and so it asks once and not ten times.
func (w *Watch) patient(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return patience{w.untilAnswered, next} })
	return config
}

type patience struct {
	untilAnswered func(context.Context)
	next          http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (p patience) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := p.next.RoundTrip(r)
	if err != nil && byInformer(r) {
		p.untilAnswered(r.Context())
	}
	return response, err
}

// byInformer reports whether a request is a watch, or a list without a deadline from a version on, which nobody but informers makes.
func byInformer(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	query := r.URL.Query()
	_, urgent := r.Context().Deadline()
	return query.Has("watch") || (query.Has("resourceVersion") && !urgent)
}

// WrappedRoundTripper lets client-go find the transport behind.
func (p patience) WrappedRoundTripper() http.RoundTripper { return p.next }

// untilAnswered waits until the API server says something, or ctx ends.
func (w *Watch) untilAnswered(ctx context.Context) {
	w.mu.Lock()
	if w.answer == nil {
		w.answer = make(chan struct{})
	}
	answer := w.answer
	w.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-answer:
	}
}
