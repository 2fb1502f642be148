package virtualnode

import (
	"errors"
	"net/http"

	"k8s.io/client-go/rest"
)

// errBarred is the answer to requests that would change something in a cluster in which nothing may be done.
var errBarred = errors.New("the lower cluster is not known to be the one that the Node stands for, does not accept the credentials, " +
	"or another process writes there: nothing is written")

// fenced has a configuration's requests that would change something leave for the lower cluster only where that is not barred,
// whoever sends them.
func fenced(config *rest.Config, barred func() bool) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return fence{barred, next} })
	return config
}

type fence struct {
	barred func() bool
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (f fence) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && f.barred() {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errBarred
	}
	return f.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport behind.
func (f fence) WrappedRoundTripper() http.RoundTripper { return f.next }
