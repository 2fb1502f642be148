package events

import (
	"context"
	"errors"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// Times and sizes of reading events.
const (
	freshness     = 10 * time.Minute // of events that happened before they could be watched
	pageSize      = 500
	retryInterval = time.Second
	listInterval  = 5 * time.Second // between two attempts to list
)

// Run shows events until ctx ends. Both caches are in sync when it is called. A cluster that cannot be reached is tried for ever.
//
// There is no informer: a cluster's events are many and mostly other people's, so none of them is kept.
func (m *Mirror) Run(ctx context.Context) {
	for ctx.Err() == nil {
		m.tell(ctx, m.follow(ctx))
		select {
		case <-ctx.Done():
		case <-time.After(listInterval):
		}
	}
}

// tell logs a failure, once as long as it stays the same.
func (m *Mirror) tell(ctx context.Context, err error) {
	if ctx.Err() != nil || err == nil || errors.Is(err, errExpired) || err.Error() == m.told {
		return
	}
	m.told = err.Error()
	m.Log.Warn("Reading the events of the lower cluster failed, trying again", "err", err)
}

// errExpired is a watch that cannot go on from where it was: what happened since is listed.
var errExpired = errors.New("the place in the stream of events is not known any more")

func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// follow lists what happened lately and then watches, until the watch cannot go on.
func (m *Mirror) follow(ctx context.Context) error {
	version, err := m.list(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, version, m.watcher(stop))
	if err != nil {
		return err
	}
	ticker := time.NewTicker(retryInterval)
	defer ticker.Stop()
	for {
		select {
		case change, ok := <-watcher.ResultChan():
			if !ok {
				return context.Cause(ctx)
			}
			if err := m.changed(ctx, change); err != nil {
				return err
			}
		case <-ticker.C:
			m.retry(ctx)
		}
	}
}

func (m *Mirror) changed(ctx context.Context, change watch.Event) error {
	switch change.Type {
	case watch.Error:
		if err := apierrors.FromObject(change.Object); !expired(err) {
			return err
		}
		return errExpired
	case watch.Added, watch.Modified:
		if event, ok := change.Object.(*corev1.Event); ok {
			m.take(ctx, event, change.Type == watch.Modified)
		}
	}
	return nil
}

// selected limits what is read to events about pods.
func selected(options metav1.ListOptions) metav1.ListOptions {
	options.FieldSelector = fields.OneTermEqualSelector("involvedObject.kind", "Pod").String()
	return options
}

// list shows what happened lately and returns from where to watch. It reads in pages, so that a cluster with many events
// does not fill the memory with them.
func (m *Mirror) list(ctx context.Context) (version string, err error) {
	options := selected(metav1.ListOptions{Limit: pageSize})
	for {
		page, err := m.Lower.Events(metav1.NamespaceAll).List(ctx, options)
		if err != nil {
			return "", err
		}
		for i := range page.Items {
			if event := &page.Items[i]; time.Since(lastSeen(event)) < freshness {
				m.take(ctx, event.DeepCopy(), false)
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return page.ResourceVersion, nil
		}
	}
}

// watcher opens watches. RetryWatcher would log every failed attempt by itself: it is told of the end of a stream instead,
// except where going on makes no sense.
func (m *Mirror) watcher(stop context.CancelCauseFunc) cache.WatcherWithContext {
	return &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		watching, err := m.Lower.Events(metav1.NamespaceAll).Watch(ctx, selected(options))
		switch {
		case err == nil:
			return watching, nil
		case expired(err):
			stop(errExpired)
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			stop(err)
		default:
			m.Log.Debug("Watching the events of the lower cluster failed, trying again", "err", err)
		}
		return nil, io.EOF
	}}
}
