package lower

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// token is the bearer token that a cluster's requests carry now.
type token struct{ text atomic.Pointer[string] }

func (t *token) wrap(next http.RoundTripper) http.RoundTripper { return bearer{t, next} }

type bearer struct {
	token *token
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+*b.token.text.Load())
	return b.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport behind.
func (b bearer) WrappedRoundTripper() http.RoundTripper { return b.next }

// Life is from when to when a token is good. Both are zero where it does not say.
type Life struct{ Issued, Ends time.Time }

// lifeOf reads the life of a token that is a JSON web token (RFC 7519, claims iat and exp), as those of ServiceAccounts are. Its
// signature is the API server's to check.
func lifeOf(token string) Life {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Life{}
	}
	var claims struct{ Iat, Exp int64 }
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Exp == 0 {
		return Life{}
	}
	return Life{Issued: time.Unix(claims.Iat, 0), Ends: time.Unix(claims.Exp, 0)}
}

// Ending reports whether somebody should see to a new token: a week before the end, but not before two thirds of its life.
func (l Life) Ending(now time.Time) bool {
	const notice = 7 * 24 * time.Hour
	return !l.Ends.IsZero() && l.Ends.Sub(now) < min(notice, l.Ends.Sub(l.Issued)/3)
}
