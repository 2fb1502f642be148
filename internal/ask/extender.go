package ask

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/wire"
)

// Extender is the extender.
type Extender struct{ *Daemon }

// Answer is what a daemon answered: read, and as it came, for those who hand it on.
type Answer[T any] struct {
	Value T
	Raw   []byte
}

// Hold asks for the hold or reservation of a UID; nil where there is none.
func (e *Extender) Hold(ctx context.Context, uid types.UID) (*wire.Hold, error) {
	answer, err := JSON[wire.Hold](ctx, e.Daemon, http.MethodGet, "/v1/holds/"+url.PathEscape(string(uid)), nil)
	if Refused(err) == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &answer.Value, nil
}

// Avoid has the pods of an owner keep away from a cluster; that holds from the moment it returns.
func (e *Extender) Avoid(ctx context.Context, request wire.AvoidRequest) error {
	_, err := e.Do(ctx, http.MethodPost, "/v1/avoid", request)
	return err
}

// Clusters asks for the lower clusters as the extender sees them.
func (e *Extender) Clusters(ctx context.Context) (Answer[wire.Clusters], error) {
	return JSON[wire.Clusters](ctx, e.Daemon, http.MethodGet, "/debug/clusters", nil)
}

// Explain asks for the last answer about a pod.
func (e *Extender) Explain(ctx context.Context, namespace, name string) (Answer[wire.Explanation], error) {
	path := "/debug/pods/" + url.PathEscape(namespace) + "/" + url.PathEscape(name)
	return JSON[wire.Explanation](ctx, e.Daemon, http.MethodGet, path, nil)
}

// Whatif asks where so many pods would go now. pod is a Pod in JSON.
func (e *Extender) Whatif(ctx context.Context, pod json.RawMessage, replicas int) (Answer[wire.Whatif], error) {
	path := fmt.Sprintf("/debug/whatif?replicas=%d", replicas)
	return JSON[wire.Whatif](ctx, e.Daemon, http.MethodPost, path, pod)
}

// JSON asks a daemon for a T.
func JSON[T any](ctx context.Context, d *Daemon, method, path string, question any) (Answer[T], error) {
	body, err := d.Do(ctx, method, path, question)
	answer := Answer[T]{Raw: body}
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(body, &answer.Value); err != nil {
		return answer, fmt.Errorf("reading the %s's answer: %w", d.Name, err)
	}
	return answer, nil
}
