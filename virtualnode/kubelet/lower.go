package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

const (
	// answerWithin is how long a lower API server may take to begin its answer. It begins that of logs that are followed with their
	// first line, which may take any time.
	answerWithin = 30 * time.Second
	// lookEvery is the time between two looks at whether the lower API server still answers others.
	lookEvery = time.Second
)

// errSilent is the end of a request to a lower API server that does not answer.
var errSilent = errors.New("the lower API server does not answer")

// Lower is how requests get to a lower API server.
type Lower struct {
	base      *url.URL
	transport http.RoundTripper
	reachable func() bool
	within    time.Duration
	every     time.Duration
}

// NewLower reaches the API server of a configuration by HTTP/1.1, which upgrades need. reachable reports whether it answers others.
func NewLower(config *rest.Config, reachable func() bool) (*Lower, error) {
	config = rest.CopyConfig(config)
	config.NextProtos = []string{"http/1.1"}
	config.DisableCompression = true
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the lower API server: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("building the way to the lower API server: %w", err)
	}
	return &Lower{base: base, transport: transport, reachable: reachable, within: answerWithin, every: lookEvery}, nil
}

// url is that of a path and a query of the lower API server. Some are behind a path of their own.
func (l *Lower) url(path string, query url.Values) *url.URL {
	u := *l.base
	u.Path, u.RawPath, u.RawQuery = strings.TrimSuffix(u.Path, "/")+path, "", query.Encode()
	return &u
}

// unlimited marks the context of a request whose answer may begin at any time.
type unlimited struct{}

// RoundTrip implements http.RoundTripper. It ends a request that is not answered; what comes after the beginning of the answer is
// not bounded.
func (l *Lower) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	answered := make(chan struct{})
	go l.wait(r.Context().Value(unlimited{}) != nil, answered, cancel)
	answer, err := l.transport.RoundTrip(r.WithContext(ctx)) // The answer is read under ctx, which ends with that of the request.
	close(answered)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errSilent) {
		return nil, cause
	}
	return answer, err
}

// wait calls cancel when it takes too long.
func (l *Lower) wait(unlimited bool, answered <-chan struct{}, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(l.every)
	defer ticker.Stop()
	limit := time.NewTimer(l.within)
	defer limit.Stop()
	if unlimited {
		limit.Stop()
	}
	for {
		select {
		case <-answered:
			return
		case <-limit.C:
			cancel(fmt.Errorf("%w: no answer within %s", errSilent, l.within))
			return
		case <-ticker.C:
			if !l.reachable() {
				cancel(fmt.Errorf("%w to anybody", errSilent))
				return
			}
		}
	}
}

// close ends connections that wait for their next request.
func (l *Lower) close() { utilnet.CloseIdleConnectionsFor(l.transport) }
