package virtualnode

import (
	"errors"
	"net/http"
)

// errBarred is the answer to requests that would change something in a cluster in which nothing may be done.
var errBarred = errors.New("the lower cluster is not known to be the one that the Node stands for, or does not accept the credentials: " +
	"nothing is written there")

// fence keeps requests that change something from leaving for a lower cluster in which nothing may be done, whoever sends them.
func (v *virtualNode) fence(next http.RoundTripper) http.RoundTripper { return fence{v, next} }

type fence struct {
	of   *virtualNode
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (f fence) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && f.of.barred() {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errBarred
	}
	return f.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport behind.
func (f fence) WrappedRoundTripper() http.RoundTripper { return f.next }
