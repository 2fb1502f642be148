package lower

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	apiversion "k8s.io/apimachinery/pkg/version"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// versionInterval is the time after which a cluster is asked for its version again: it may have been upgraded.
const versionInterval = time.Minute

// version is that of the API server as it was last told. The scheduler beside it has the same, but for the hours of an upgrade.
type version struct {
	mu    sync.Mutex
	known snapshot.Version
	err   error     // of the last question
	next  time.Time // not to be asked before; zero before the first answer or failure
}

// asked reports whether there is an answer, or at least none to be had: a cluster that keeps its version to itself is judged
// as one of the newest.
func (v *version) asked() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.next.IsZero()
}

// Version is that of the cluster's scheduler, zero while it is not known.
func (w *Watch) Version() snapshot.Version {
	w.version.mu.Lock()
	defer w.version.mu.Unlock()
	return w.version.known
}

// readVersion asks for the version when it is time to. Another one makes another snapshot.
func (w *Watch) readVersion(ctx context.Context) {
	w.version.mu.Lock()
	due := time.Now().After(w.version.next)
	w.version.mu.Unlock()
	if !due {
		return
	}
	found, err := w.askVersion(ctx)
	w.version.mu.Lock()
	before, failed := w.version.known, w.version.err
	w.version.err = err
	w.version.next = time.Now() // With the next probe, if there was no answer.
	if err == nil {
		w.version.known, w.version.next = found, time.Now().Add(versionInterval)
	}
	w.version.mu.Unlock()
	switch {
	case err != nil && failed == nil && ctx.Err() == nil:
		w.Log.Warn("Reading the version of a lower cluster failed, the last known or the newest one is assumed", "err", err)
	case err == nil && found.String() != before.String():
		w.Touch()
	}
}

func (w *Watch) askVersion(ctx context.Context) (snapshot.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	body, err := w.client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return snapshot.Version{}, fmt.Errorf("reading the version of %s: %w", w.Name, err)
	}
	var info apiversion.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return snapshot.Version{}, fmt.Errorf("reading the version of %s: %w", w.Name, err)
	}
	return snapshot.ParseVersion(info.GitVersion)
}
