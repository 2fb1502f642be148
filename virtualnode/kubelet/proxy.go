package kubelet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// passed are the headers that go below, beside Connection and Upgrade: nothing by which a caller says who it is, or somebody else.
var passed = []string{
	"Connection", "Upgrade", "X-Stream-Protocol-Version",
	"Sec-Websocket-Extensions", "Sec-Websocket-Key", "Sec-Websocket-Protocol", "Sec-Websocket-Version",
}

// tokenProtocol begins the WebSocket subprotocol by which browsers send a bearer token
// (k8s.io/apiserver/pkg/authentication/request/websocket).
const tokenProtocol = "base64url.bearer.authorization.k8s.io."

// errorText is the most that is read of a lower API server's refusal.
const errorText = 64 << 10

// proxy hands a request on to the lower API server.
type proxy struct {
	cluster string
	lower   *Lower
	log     *slog.Logger
}

// serve answers with what the lower API server says to the call on a pod there.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request, c *call, namespace, pod string) {
	ctx := r.Context()
	if c.follows {
		ctx = context.WithValue(ctx, unlimited{}, true)
	}
	reverse := httputil.ReverseProxy{
		Rewrite: func(out *httputil.ProxyRequest) {
			out.Out.URL, out.Out.Host = p.lower.url(c.lower(namespace, pod)), ""
			out.Out.Header = headers(out.Out.Header)
		},
		Transport: p.lower, FlushInterval: -1,
		ModifyResponse: func(answer *http.Response) error { return p.plain(answer, c) },
		ErrorHandler:   func(w http.ResponseWriter, r *http.Request, err error) { p.fail(w, r, err) },
		ErrorLog:       slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	reverse.ServeHTTP(w, r.WithContext(ctx))
}

// headers are those that go below.
func headers(asked http.Header) http.Header {
	all := http.Header{"Accept": {"application/json, */*"}, "User-Agent": {"tessera-virtualnode"}}
	for _, name := range passed {
		if values := asked.Values(name); len(values) > 0 {
			all[name] = slices.Clone(values)
		}
	}
	const protocols = "Sec-Websocket-Protocol"
	var kept []string
	for _, value := range all[protocols] {
		for protocol := range strings.SplitSeq(value, ",") {
			if protocol = strings.TrimSpace(protocol); !strings.HasPrefix(protocol, tokenProtocol) {
				kept = append(kept, protocol)
			}
		}
	}
	if delete(all, protocols); len(kept) > 0 {
		all.Set(protocols, strings.Join(kept, ", "))
	}
	return all
}

// plain makes of the lower API server's refusal a kubelet's, which is text: the upper API server puts it into a refusal of its own.
func (p *proxy) plain(answer *http.Response, c *call) error {
	if answer.StatusCode < http.StatusBadRequest {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, errorText))
	if err != nil {
		return fmt.Errorf("reading a refusal: %w", err)
	}
	_ = answer.Body.Close()
	var status metav1.Status
	if json.Unmarshal(text, &status) == nil && status.Message != "" {
		text = []byte(status.Message)
	}
	code, said := p.meant(answer.StatusCode, strings.TrimSpace(string(text)), c)
	answer.StatusCode, answer.Status = code, fmt.Sprintf("%d %s", code, http.StatusText(code))
	answer.Header = http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
	answer.Body, answer.ContentLength, answer.TransferEncoding = io.NopCloser(bytes.NewReader([]byte(said))), int64(len(said)), nil
	return nil
}

// meant is what a refusal of the lower API server means to who asked above. That our account may not do it, or is not known any more, is
// no fault of theirs: 502, the text of which the upper API server shows.
func (p *proxy) meant(code int, text string, c *call) (meant int, said string) {
	switch code {
	case http.StatusUnauthorized:
		return http.StatusBadGateway, fmt.Sprintf("lower cluster %q does not accept the credentials of its kubeconfig: %s", p.cluster, text)
	case http.StatusForbidden:
		if strings.Contains(text, " cannot ") { // By RBAC, and not by a policy or a webhook.
			role := "tessera-streams"
			if c.kind == Logs {
				role = "tessera"
			}
			text += fmt.Sprintf(": ClusterRole %s of manifests/lower/rbac.yaml gives the account that right, apply it there", role)
		}
		return http.StatusBadGateway, fmt.Sprintf("lower cluster %q does not allow it: %s", p.cluster, text)
	case http.StatusNotFound:
		if text == "" {
			text = noPod(c).Error()
		}
		return code, fmt.Sprintf("%s in lower cluster %q", text, p.cluster)
	}
	return code, text
}

// fail answers when there is no answer from below.
func (p *proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		w.WriteHeader(statusGone) // Nobody reads it, but it is counted.
		return
	}
	answer(w, http.StatusBadGateway, fmt.Sprintf("reaching the API server of lower cluster %q: %v: see the conditions of node %s",
		p.cluster, err, p.cluster))
}

// statusGone is the code for callers that did not wait for an answer, as others count them.
const statusGone = 499

// answer writes a text as a kubelet does.
func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // The client has gone if this fails.
}
