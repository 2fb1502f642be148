package extender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	gocache "github.com/patrickmn/go-cache"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// avoidRequest is the body of POST /v1/avoid: one of owner and pod, and for how long.
type avoidRequest struct {
	Owner   *snapshot.Owner `json:"owner,omitempty"`
	Pod     *corev1.Pod     `json:"pod,omitempty"`
	Cluster string          `json:"cluster"`
	Seconds int             `json:"seconds"`
	Reason  string          `json:"reason,omitempty"`
}

// avoidEntry is one value of the ConfigMap: a cluster that an owner's pods stay away from until a time.
type avoidEntry struct {
	Owner   snapshot.Owner `json:"owner"`
	Cluster string         `json:"cluster"`
	Until   time.Time      `json:"until"`
	Reason  string         `json:"reason,omitempty"`
}

// longestAvoid bounds the seconds of a request: what is avoided for longer belongs into a selector.
const longestAvoid = 24 * time.Hour

func (r *avoidRequest) entry(now time.Time) (avoidEntry, error) {
	e := avoidEntry{Cluster: r.Cluster, Reason: r.Reason, Until: now.Add(time.Duration(r.Seconds) * time.Second)}
	switch {
	case r.Owner != nil && r.Pod == nil:
		e.Owner = *r.Owner
	case r.Pod != nil && r.Owner == nil:
		e.Owner = snapshot.OwnerOf(r.Pod)
	default:
		return e, errors.New("exactly one of owner and pod is needed")
	}
	switch {
	case e.Owner.UID == "":
		return e, errors.New("owner.uid: empty: the UID says which owner is meant")
	case r.Cluster == "":
		return e, errors.New("cluster: empty: name the cluster to avoid")
	case len(validation.IsConfigMapKey(e.key())) > 0:
		return e, fmt.Errorf("owner.uid, cluster: %q has characters that neither a UID nor a cluster's name has", e.key())
	case r.Seconds < 1 || r.Seconds > int(longestAvoid.Seconds()):
		return e, fmt.Errorf("seconds: %d is not within 1 and %d", r.Seconds, int(longestAvoid.Seconds()))
	}
	return e, nil
}

// avoidList is the list of clusters to avoid: a ConfigMap, so that a restart keeps it, and a copy in memory whose
// entries end by themselves.
type avoidList struct {
	log       *slog.Logger
	client    kubernetes.Interface
	namespace string
	entries   *gocache.Cache // key -> avoidEntry
}

func newAvoidList(log *slog.Logger, client kubernetes.Interface, namespace string) *avoidList {
	return &avoidList{log: log, client: client, namespace: namespace, entries: gocache.New(gocache.NoExpiration, time.Minute)}
}

// key is a valid key of a ConfigMap: UIDs and cluster names are made of letters, digits, dots and dashes.
func (e avoidEntry) key() string { return string(e.Owner.UID) + "_" + e.Cluster }

func (l *avoidList) has(owner snapshot.Owner, cluster string) bool {
	_, found := l.entries.Get(avoidEntry{Owner: owner, Cluster: cluster}.key())
	return found
}

// add avoids from now on, and writes it down. The entry holds in memory even where writing fails.
func (l *avoidList) add(ctx context.Context, now time.Time, entry avoidEntry) error {
	l.entries.Set(entry.key(), entry, entry.Until.Sub(now))
	text, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("writing avoid list: %w", err)
	}
	return l.write(ctx, now, entry.key(), string(text))
}

// write adds an entry to what the ConfigMap holds, and drops from it what has ended.
func (l *avoidList) write(ctx context.Context, now time.Time, key, text string) error {
	maps := l.client.CoreV1().ConfigMaps(l.namespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		found, err := maps.Get(ctx, keys.AvoidConfigMap, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: keys.AvoidConfigMap}, Data: map[string]string{key: text}}
			_, err = maps.Create(ctx, object, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		for other, value := range found.Data {
			if entry, err := parseAvoid(value); err != nil || !entry.Until.After(now) {
				delete(found.Data, other)
			}
		}
		if found.Data == nil {
			found.Data = map[string]string{}
		}
		found.Data[key] = text
		_, err = maps.Update(ctx, found, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("writing ConfigMap %s/%s: %w", l.namespace, keys.AvoidConfigMap, err)
	}
	return nil
}

func parseAvoid(text string) (entry avoidEntry, err error) {
	err = json.Unmarshal([]byte(text), &entry)
	return entry, err
}

// read takes over what an earlier process wrote. An entry that cannot be read is logged and left out.
func (l *avoidList) read(ctx context.Context) error {
	found, err := l.client.CoreV1().ConfigMaps(l.namespace).Get(ctx, keys.AvoidConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading ConfigMap %s/%s: %w", l.namespace, keys.AvoidConfigMap, err)
	}
	now := time.Now()
	for key, text := range found.Data {
		entry, err := parseAvoid(text)
		if err != nil {
			l.log.Error("Reading an entry of the avoid list failed, it is left out", "key", key, "err", err)
			continue
		}
		if entry.Until.After(now) {
			l.entries.Set(entry.key(), entry, entry.Until.Sub(now))
		}
	}
	return nil
}
