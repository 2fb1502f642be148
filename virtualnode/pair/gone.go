package pair

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/tombstone"
)

// Gone tells objects of the upper cluster that were seen to go from those that are merely missing there: an upper cluster that was
// restored from a backup or built anew gets them back in a while. Keys are namespace/name. The zero value is ready for use, and its
// methods are safe for concurrent use.
type Gone struct {
	mu    sync.Mutex
	seen  map[string]bool
	since map[string]time.Time
}

// Handler notes what comes and goes, and calls look with the key of everything that something happens to.
func (g *Gone) Handler(look func(key string)) cache.ResourceEventHandler {
	take := func(object any, seen bool) {
		accessor, err := meta.Accessor(object)
		if err != nil {
			return
		}
		key := accessor.GetNamespace() + "/" + accessor.GetName()
		g.note(key, seen)
		look(key)
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { take(object, false) }, UpdateFunc: func(_, object any) { take(object, false) },
		DeleteFunc: func(object any) { take(tombstone.Unwrap(object)) },
	}
}

func (g *Gone) note(key string, seen bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.since, key)
	if delete(g.seen, key); !seen {
		return
	}
	if g.seen == nil {
		g.seen = map[string]bool{}
	}
	g.seen[key] = true
}

// Left is how long it is until an object that is not there may be taken for gone: not at all if it was seen to go, else it has to be
// missing for as long as within, counted from the first time that this is asked.
func (g *Gone) Left(key string, within time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen[key] {
		return 0
	}
	since, noted := g.since[key]
	if !noted {
		if g.since == nil {
			g.since = map[string]time.Time{}
		}
		since = time.Now()
		g.since[key] = since
	}
	return max(0, within-time.Since(since))
}
