package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// AvoidRequest is the body of POST /v1/avoid: one of owner and pod, and for how long.
type AvoidRequest struct {
	Owner   *snapshot.Owner `json:"owner,omitempty"`
	Pod     *corev1.Pod     `json:"pod,omitempty"`
	Cluster string          `json:"cluster"`
	Seconds int             `json:"seconds"`
	Reason  string          `json:"reason,omitempty"`
}

// AvoidEntry is one value of the ConfigMap: a cluster that an owner's pods stay away from until a time.
type AvoidEntry struct {
	Owner   snapshot.Owner `json:"owner"`
	Cluster string         `json:"cluster"`
	Until   time.Time      `json:"until"`
	Reason  string         `json:"reason,omitempty"`
}

// longestAvoid bounds the seconds of a request: what is avoided for longer belongs into a selector.
const longestAvoid = 24 * time.Hour

// largestEntry bounds an entry, in bytes of JSON: a ConfigMap holds 1 MiB, and one entry must not fill it.
const largestEntry = 4 << 10

// ReadAvoid reads and checks an AvoidRequest, and returns the entry that it asks for.
func ReadAvoid(body []byte, now time.Time) (*AvoidEntry, error) {
	r := &AvoidRequest{}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("reading body: %w", err)
	}
	e := &AvoidEntry{Cluster: r.Cluster, Reason: r.Reason, Until: now.Add(time.Duration(r.Seconds) * time.Second)}
	switch {
	case r.Owner != nil && r.Pod == nil:
		e.Owner = *r.Owner
	case r.Pod != nil && r.Owner == nil:
		e.Owner = snapshot.OwnerOf(r.Pod)
	default:
		return nil, errors.New("exactly one of owner and pod is needed")
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	if r.Seconds < 1 || r.Seconds > int(longestAvoid.Seconds()) {
		return nil, fmt.Errorf("seconds: %d is not within 1 and %d", r.Seconds, int(longestAvoid.Seconds()))
	}
	if text, err := json.Marshal(e); err != nil || len(text) > largestEntry {
		return nil, fmt.Errorf("owner, reason: too long: %d bytes are written down at most", largestEntry)
	}
	return e, nil
}

// ReadAvoidEntry reads a value of the ConfigMap. Whoever wrote it, nothing is avoided for longer than a request can ask for.
func ReadAvoidEntry(text string, now time.Time) (*AvoidEntry, error) {
	e := &AvoidEntry{}
	if err := json.Unmarshal([]byte(text), e); err != nil {
		return nil, fmt.Errorf("reading entry: %w", err)
	}
	if latest := now.Add(longestAvoid); e.Until.After(latest) {
		e.Until = latest
	}
	return e, e.check()
}

func (e *AvoidEntry) check() error {
	switch {
	case e.Owner.UID == "":
		return errors.New("owner.uid: empty: the UID says which owner is meant")
	case e.Cluster == "":
		return errors.New("cluster: empty: name the cluster to avoid")
	case len(validation.IsConfigMapKey(e.Key())) > 0:
		return fmt.Errorf("owner.uid, cluster: %q has characters that neither a UID nor a cluster's name has", e.Key())
	}
	return nil
}

// Key is a valid key of a ConfigMap: UIDs and cluster names are made of letters, digits, dots and dashes.
func (e *AvoidEntry) Key() string { return string(e.Owner.UID) + "_" + e.Cluster }
