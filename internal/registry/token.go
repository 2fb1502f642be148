package registry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// token is the bearer token that a cluster's requests carry now.
type token struct {
	use atomic.Pointer[tokens]
	// fell is called when the other one is used from now on, because the first is not taken.
	fell func(tokens)
}

// tokens is the token to send and, where there are two, the other: it is sent from when the first is not taken.
type tokens struct{ first, other string }

func (t *token) wrap(next http.RoundTripper) http.RoundTripper { return bearer{t, next} }

type bearer struct {
	token *token
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	use := b.token.use.Load()
	answer, err := b.send(r, use.first)
	if err != nil || answer.StatusCode != http.StatusUnauthorized || use.other == "" {
		return answer, err
	}
	if now := (tokens{first: use.other}); b.token.use.CompareAndSwap(use, &now) {
		b.token.fell(now)
	}
	again := r.Clone(r.Context())
	if r.Body != nil && r.Body != http.NoBody {
		if r.GetBody == nil {
			return answer, nil
		}
		if again.Body, err = r.GetBody(); err != nil {
			return nil, fmt.Errorf("sending the request again with another token: %w", err)
		}
	}
	answer.Body.Close()
	return b.send(again, b.token.use.Load().first)
}

func (b bearer) send(r *http.Request, token string) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return b.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport behind.
func (b bearer) WrappedRoundTripper() http.RoundTripper { return b.next }

// Life is from when to when a token is good, and whose it is. All are zero where it does not say.
type Life struct {
	Issued, Ends time.Time
	// Namespace and Account are those of the ServiceAccount.
	Namespace, Account string
	// Bound says that the token ends with an object: a Pod, a Secret or a Node.
	Bound bool
}

// lifeOf reads the life of a token that is a JSON web token (RFC 7519, claims iat, exp and sub), as those of ServiceAccounts are; the
// private claim kubernetes.io is theirs. Its signature is the API server's to check.
func lifeOf(token string) Life {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Life{}
	}
	type object struct{}
	var claims struct {
		Iat, Exp int64
		Sub      string
		Private  struct{ Pod, Secret, Node *object } `json:"kubernetes.io"`
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Exp == 0 {
		return Life{}
	}
	private := claims.Private
	life := Life{
		Issued: time.Unix(claims.Iat, 0), Ends: time.Unix(claims.Exp, 0),
		Bound: private.Pod != nil || private.Secret != nil || private.Node != nil,
	}
	if of, ok := strings.CutPrefix(claims.Sub, "system:serviceaccount:"); ok {
		life.Namespace, life.Account, _ = strings.Cut(of, ":")
	}
	return life
}

// Renew is when a token is to be renewed: after half of its life. The zero time is never: of one that does not end, is not a
// ServiceAccount's, or ends with an object, which is somebody's way to end it.
func (l Life) Renew() time.Time {
	if l.Ends.IsZero() || l.Account == "" || l.Bound {
		return time.Time{}
	}
	return l.Ends.Add(-l.Ends.Sub(l.Issued) / 2)
}

// Ending reports whether somebody should see to a new token: a week before the end, but not before two thirds of its life.
func (l Life) Ending(now time.Time) bool {
	const notice = 7 * 24 * time.Hour
	return !l.Ends.IsZero() && l.Ends.Sub(now) < min(notice, l.Ends.Sub(l.Issued)/3)
}
