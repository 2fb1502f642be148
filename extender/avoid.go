package extender

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	gocache "github.com/patrickmn/go-cache"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// avoidList is the list of clusters to avoid: a ConfigMap, so that a restart keeps it, and a copy in memory whose
// entries end by themselves.
type avoidList struct {
	log       *slog.Logger
	client    kubernetes.Interface
	namespace string
	entries   *gocache.Cache // key -> *wire.AvoidEntry
}

func newAvoidList(log *slog.Logger, client kubernetes.Interface, namespace string) *avoidList {
	return &avoidList{log: log, client: client, namespace: namespace, entries: gocache.New(gocache.NoExpiration, time.Minute)}
}

func (l *avoidList) has(owner snapshot.Owner, cluster string) bool {
	_, found := l.entries.Get((&wire.AvoidEntry{Owner: owner, Cluster: cluster}).Key())
	return found
}

// add avoids from now on, and writes it down. The entry holds in memory even where writing fails.
func (l *avoidList) add(ctx context.Context, now time.Time, entry *wire.AvoidEntry) error {
	l.entries.Set(entry.Key(), entry, entry.Until.Sub(now))
	text, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("writing avoid list: %w", err)
	}
	return l.write(ctx, now, entry.Key(), string(text))
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
			if entry, err := wire.ReadAvoidEntry(value, now); err != nil || !entry.Until.After(now) {
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
		entry, err := wire.ReadAvoidEntry(text, now)
		if err != nil {
			l.log.Error("Reading an entry of the avoid list failed, it is left out", "key", key, "err", err)
			continue
		}
		if entry.Until.After(now) {
			l.entries.Set(entry.Key(), entry, entry.Until.Sub(now))
		}
	}
	return nil
}
