package objects

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/translate"
)

// Sources watches single objects of the upper cluster: those that somebody uses, each by itself, as a kubelet does. All virtual
// nodes of a process share it. Its methods are safe for concurrent use.
type Sources struct {
	client kubernetes.Interface
	log    *slog.Logger

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // That of Run, nil before: watches begin when somebody asks, and end with it.
	sources map[Key]*source
	running sync.WaitGroup
}

// user is who is told of changes.
type user interface{ Look(key Key) }

// source is one object that is watched.
type source struct {
	of    *Sources
	key   Key
	users map[user]bool
	stop  context.CancelFunc // nil before it runs

	known   chan struct{} // closed once it is known whether the object is there
	object  metav1.Object // nil where there is none
	missing time.Time     // since when there is none without anybody having seen it go; zero where it was seen
	failed  chan struct{} // closed once an attempt to read it has failed
	err     error         // why the last one did
}

// NewSources returns one that watches nothing before Run.
func NewSources(client kubernetes.Interface, log *slog.Logger) *Sources {
	return &Sources{client: client, log: log, sources: map[Key]*source{}}
}

// Run watches what is used until ctx ends.
func (s *Sources) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for _, source := range s.sources {
		source.start()
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.running.Wait()
	return nil
}

// Use has an object watched for a user until it leaves.
func (s *Sources) Use(key Key, by user) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.sources[key]
	if used == nil {
		used = &source{of: s, key: key, users: map[user]bool{}, known: make(chan struct{}), failed: make(chan struct{})}
		s.sources[key] = used
		used.start()
	}
	used.users[by] = true
}

// Leave ends that. It does nothing if the user does not use the object.
func (s *Sources) Leave(key Key, by user) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.sources[key]
	if used == nil {
		return
	}
	delete(used.users, by)
	if len(used.users) > 0 {
		return
	}
	delete(s.sources, key)
	if used.stop != nil {
		used.stop()
	}
}

// LeaveAll ends all that a user uses.
func (s *Sources) LeaveAll(by user) {
	s.mu.Lock()
	var all []Key
	for key, used := range s.sources {
		if used.users[by] {
			all = append(all, key)
		}
	}
	s.mu.Unlock()
	for _, key := range all {
		s.Leave(key, by)
	}
}

// Get returns an object that is used, nil if there is none; known is false before that is known, and err then says why. What it
// returns is shared: nobody may change it.
func (s *Sources) Get(key Key) (object metav1.Object, known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.sources[key]
	if used == nil {
		return nil, false, nil
	}
	select {
	case <-used.known:
		return used.object, true, nil
	default:
		return nil, false, used.err
	}
}

// Await waits until it is known whether an object that is used is there, or why that cannot be read.
func (s *Sources) Await(ctx context.Context, key Key) error {
	s.mu.Lock()
	used := s.sources[key]
	s.mu.Unlock()
	if used == nil {
		return nil
	}
	select {
	case <-used.known:
		return nil
	default:
	}
	select {
	case <-used.known:
		return nil
	case <-used.failed:
		_, known, err := s.Get(key)
		if !known && err == nil {
			return errPending
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errPending = errors.New("it is being read")

// Missing is how long it is until an object that is not there may be taken for gone: not at all if it was seen to go, else it has to
// be missing for as long as within.
func (s *Sources) Missing(key Key, within time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.sources[key]
	if used == nil || used.missing.IsZero() {
		return 0
	}
	return max(0, within-time.Since(used.missing))
}

// Watched is how many objects are watched.
func (s *Sources) Watched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sources)
}

// start begins to watch, if Run has been called. The caller holds the lock.
func (s *source) start() {
	if s.of.ctx == nil || s.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(s.of.ctx)
	s.stop = stop
	example, list, open := s.calls()
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, s.key.above()).String()
	noting := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = only
			found, err := list(ctx, options)
			s.note(err)
			return found, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = only
			watching, err := open(ctx, options)
			s.note(err)
			return watching, err
		},
	}
	reflector := cache.NewReflectorWithOptions(listed{noting}, example, s, cache.ReflectorOptions{Name: "object"})
	s.of.running.Go(func() { reflector.RunWithContext(ctx) })
}

// listed lists before it watches, from the API server's cache. Its stream of initial events would end with a bookmark, which waits until
// that cache is known to be new: up to 100 ms for each object, while a pod waits. What comes later the watch tells.
type listed struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported tells a Reflector so.
func (listed) IsWatchListSemanticsUnSupported() bool { return true }

// calls are those that list and watch objects of the kind, and an example of one.
func (s *source) calls() (
	example runtime.Object,
	list func(context.Context, metav1.ListOptions) (runtime.Object, error),
	open func(context.Context, metav1.ListOptions) (watch.Interface, error),
) {
	if s.key.Kind == translate.KindSecret {
		secrets := s.of.client.CoreV1().Secrets(s.key.Namespace)
		list = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return secrets.List(ctx, o) }
		return &corev1.Secret{}, list, secrets.Watch
	}
	maps := s.of.client.CoreV1().ConfigMaps(s.key.Namespace)
	list = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return maps.List(ctx, o) }
	return &corev1.ConfigMap{}, list, maps.Watch
}

func (s *source) note(err error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.err = err; err != nil {
		shut(s.failed)
	}
}

// shut closes a channel that may be closed already. The caller holds the lock.
func shut(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// set notes the object, nil for none, and tells whoever uses it. seen: where there is none, its deletion was seen.
func (s *source) set(object metav1.Object, seen bool) {
	if object != nil {
		object.SetManagedFields(nil)
	}
	s.of.mu.Lock()
	s.object = object
	switch {
	case object != nil || seen:
		s.missing = time.Time{}
	case s.missing.IsZero():
		s.missing = time.Now()
	}
	shut(s.known)
	users := make([]user, 0, len(s.users))
	for by := range s.users {
		users = append(users, by)
	}
	s.of.mu.Unlock()
	for _, by := range users {
		by.Look(s.key)
	}
}

// Add implements cache.ReflectorStore.
func (s *source) Add(object any) error { return s.Update(object) }

// Update implements cache.ReflectorStore.
func (s *source) Update(object any) error {
	if found, ok := object.(metav1.Object); ok && found.GetName() == s.key.above() {
		s.set(found, false)
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *source) Delete(object any) error {
	if gone, ok := object.(metav1.Object); ok && gone.GetName() == s.key.above() {
		s.set(nil, true)
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *source) Replace(objects []any, _ string) error {
	for _, object := range objects {
		if found, ok := object.(metav1.Object); ok && found.GetName() == s.key.above() {
			s.set(found, false)
			return nil
		}
	}
	s.set(nil, false)
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *source) Resync() error { return nil }
