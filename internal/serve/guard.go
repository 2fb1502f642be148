package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
)

// Guard decides who may call. Requests of the plain loopback listener (no TLS) pass every check: whoever opened
// that listener wanted it so.
type Guard struct {
	authn authenticator.Request
	authz authorizer.Authorizer
}

// NewGuard returns a guard that asks the API server about bearer tokens (TokenReview) and about what their owner
// may do (SubjectAccessReview on the path of the request). Answers are cached for some seconds.
func NewGuard(client kubernetes.Interface) (*Guard, error) { return newGuard(client, nil) }

// NewGuardOf is NewGuard with client certificates of a CA beside the tokens, as a kubelet takes them.
func NewGuardOf(client kubernetes.Interface, ca *ClientCA) (*Guard, error) {
	return newGuard(client, ca)
}

func newGuard(client kubernetes.Interface, ca dynamiccertificates.CAContentProvider) (*Guard, error) {
	backoff := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 3}
	authn, _, err := authenticatorfactory.DelegatingAuthenticatorConfig{
		TokenAccessReviewClient:  client.AuthenticationV1(),
		TokenAccessReviewTimeout: 5 * time.Second,
		WebhookRetryBackoff:      &backoff,
		CacheTTL:                 10 * time.Second,

		ClientCertificateCAContentProvider: ca,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("building authenticator: %w", err)
	}
	authz, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: client.AuthorizationV1(),
		AllowCacheTTL:             10 * time.Second,
		DenyCacheTTL:              10 * time.Second,
		WebhookRetryBackoff:       &backoff,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("building authorizer: %w", err)
	}
	return &Guard{authn: authn, authz: authz}, nil
}

// Who is who sends a request, by its token or its certificate; nil for somebody unknown. It may ask the API server.
func (g *Guard) Who(r *http.Request) (user.Info, error) {
	who, ok, err := g.authn.AuthenticateRequest(r)
	if err != nil || !ok {
		return nil, err
	}
	return who.User, nil
}

// May reports whether the API server allows it. It may ask that one.
func (g *Guard) May(ctx context.Context, attributes authorizer.Attributes) (bool, error) {
	decision, _, err := g.authz.Authorize(ctx, attributes)
	return err == nil && decision == authorizer.DecisionAllow, err
}

// Bearer lets requests through whose token may use verb and path, as RBAC's nonResourceURLs say. Of a path with
// more than two parts, such as /v1/holds/UID, the right to /v1/holds/ is asked for: the rule /v1/holds/* grants it,
// and one answer serves every UID.
func (g *Guard) Bearer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			next.ServeHTTP(w, r)
			return
		}
		who, err := g.Who(r)
		if err != nil || who == nil {
			Error(w, http.StatusUnauthorized, "a valid bearer token is needed: kubectl create token NAME gives one")
			return
		}
		allowed, err := g.May(r.Context(), authorizer.AttributesRecord{User: who, Verb: verb(r.Method), Path: right(r.URL.Path)})
		if err != nil || !allowed {
			Error(w, http.StatusForbidden, fmt.Sprintf("%s may not %s %s: grant the nonResourceURL in a ClusterRole",
				who.GetName(), verb(r.Method), right(r.URL.Path)))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ClientCertificate lets requests through that came with a certificate of clientCAFile.
func ClientCertificate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.VerifiedChains) == 0 {
			Error(w, http.StatusUnauthorized, "a client certificate signed by clientCAFile is needed")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// right is the path that a right is asked for.
func right(path string) string {
	parts := strings.SplitAfterN(path, "/", 4) // "/", "v1/", "holds/", "UID"
	return strings.Join(parts[:min(len(parts), 3)], "")
}

// verb is the lower-case HTTP method, which is what RBAC's nonResourceURLs rules are written in.
func verb(method string) string {
	switch method {
	case http.MethodPost:
		return "post"
	case http.MethodDelete:
		return "delete"
	case http.MethodPut:
		return "put"
	case http.MethodPatch:
		return "patch"
	}
	return "get"
}

// Error answers {"error": text} with the status.
func Error(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text}) // The client has gone if this fails.
}
