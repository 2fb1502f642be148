package lower

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/history"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/tombstone"
)

// Times of publishing, which waits a moment so that a burst of events makes one snapshot, and the longer the longer
// snapshots take to build, so that a large cluster in turmoil does not eat the processor.
const (
	publishDelay = 10 * time.Millisecond
	publishShare = 5 // at most every fifth moment goes into building snapshots
)

// Watch keeps the snapshot of one lower cluster fresh.
type Watch struct {
	Name     string
	Identity string
	Log      *slog.Logger
	// Publish receives each new snapshot, one at a time and in order. It must be quick.
	Publish func(*snapshot.Snapshot)
	// Apply, if set before Run, receives what has changed in place of snapshots, likewise. It says how long it worked, which is
	// without the time for which it had to wait.
	Apply func(*snapshot.Changes) (worked time.Duration)
	// Pause is the least time between two snapshots, if set before Run; 10 ms otherwise.
	Pause time.Duration
	// Around, if set before Run, is waited for and gives the snapshots what they know of namespaces and devices.
	Around *Around

	client kubernetes.Interface
	nodes  cache.SharedIndexInformer
	pods   cache.SharedIndexInformer
	wake   chan struct{}

	sources [2]source              // of nodes and pods
	keep    func(*corev1.Pod) bool // which pods are kept whole, see Keep; nil is none

	mu     sync.Mutex
	health Health
	awake  time.Time // when this process was last seen running
	// identified is when the cluster was last asked who it is, and answered.
	identified time.Time
	// answer is closed when the API server next says something; nil if nobody waits for it.
	answer chan struct{}

	past *history.Probe

	version version

	rowsMu sync.Mutex
	rows   *snapshot.Rows
	around seenAround
	looked bool
	listed [2]cache.ResourceEventHandlerRegistration // tell when all that was listed first is in rows
}

// NewWatch returns a watch of the cluster behind config.
func NewWatch(name, identity string, config *rest.Config, log *slog.Logger, publish func(*snapshot.Snapshot)) (*Watch, error) {
	w := &Watch{
		Name: name, Identity: identity, Log: log.With("cluster", name), Publish: publish, wake: make(chan struct{}, 1),
		rows: snapshot.NewRows(name),
	}
	client, err := kubernetes.NewForConfig(w.patient(config))
	if err != nil {
		return nil, fmt.Errorf("building client of %s: %w", name, err)
	}
	w.client = client
	w.nodes = w.sources[0].informer(client, client.CoreV1().RESTClient(), "nodes", &corev1.Node{}, cache.Indexers{})
	w.pods = w.sources[1].informer(client, client.CoreV1().RESTClient(), "pods", &corev1.Pod{}, cache.Indexers{})
	w.past = history.NewProbe(client, func() []string {
		return []string{w.nodes.LastSyncResourceVersion(), w.pods.LastSyncResourceVersion()}
	})
	return w, w.wire()
}

// wire trims what arrives to what is needed, and has the rows told of it.
func (w *Watch) wire() (err error) {
	if err := w.nodes.SetTransform(trimNode); err != nil {
		return fmt.Errorf("watching nodes of %s: %w", w.Name, err)
	}
	if err := w.pods.SetTransform(w.trimPod); err != nil {
		return fmt.Errorf("watching pods of %s: %w", w.Name, err)
	}
	handlers := []cache.ResourceEventHandler{
		cache.ResourceEventHandlerFuncs{
			AddFunc:    func(node any) { w.see(w.setNode(node)) },
			UpdateFunc: func(_, node any) { w.see(w.setNode(node)) },
			DeleteFunc: func(node any) { w.see(w.removeNode(node)) },
		},
		cache.ResourceEventHandlerFuncs{
			AddFunc:    func(pod any) { w.see(w.setPod(nil, pod)) },
			UpdateFunc: func(before, pod any) { w.see(w.setPod(before, pod)) },
			DeleteFunc: func(pod any) { w.see(w.removePod(pod)) },
		},
	}
	for i, informer := range []cache.SharedIndexInformer{w.nodes, w.pods} {
		if w.listed[i], err = informer.AddEventHandler(handlers[i]); err != nil {
			return fmt.Errorf("watching %s: %w", w.Name, err)
		}
		if err := informer.SetWatchErrorHandlerWithContext(w.watchFailed); err != nil {
			return fmt.Errorf("watching %s: %w", w.Name, err)
		}
	}
	return nil
}

func (w *Watch) setNode(object any) (changed bool) {
	w.rowsMu.Lock()
	defer w.rowsMu.Unlock()
	return w.rows.SetNode(object.(*corev1.Node))
}

func (w *Watch) removeNode(object any) (changed bool) {
	last, _ := tombstone.Unwrap(object)
	node, ok := last.(*corev1.Node)
	if ok {
		w.rowsMu.Lock()
		defer w.rowsMu.Unlock()
		w.rows.RemoveNode(node.Name)
	}
	return ok
}

// setPod takes over the state of a pod. A name that has another pod than before says that the one before has gone.
func (w *Watch) setPod(before, object any) (changed bool) {
	entry := object.(*podEntry)
	w.rowsMu.Lock()
	defer w.rowsMu.Unlock()
	if before != nil && before.(*podEntry).UID != entry.UID {
		w.rows.RemovePod(before.(*podEntry).UID)
	}
	entry.pod, changed = w.rows.SetPod(entry.pod)
	return changed
}

func (w *Watch) removePod(object any) (changed bool) {
	last, _ := tombstone.Unwrap(object)
	entry, ok := last.(*podEntry)
	if !ok {
		return false
	}
	w.rowsMu.Lock()
	defer w.rowsMu.Unlock()
	return w.rows.RemovePod(entry.UID)
}

// Client is the client of the lower cluster.
func (w *Watch) Client() kubernetes.Interface { return w.client }

// Nodes returns the nodes as they were last seen, with their pod ranges, which snapshots do not have. The caller does not
// change them.
func (w *Watch) Nodes() []*corev1.Node {
	return listed[*corev1.Node](w.nodes, metav1.NamespaceAll)
}

// Run watches until ctx ends. A cluster that cannot be reached is tried for ever; Health says so meanwhile. It returns
// history.ErrWentBack for one that was restored from a backup: nothing that watches it hears anything any more.
func (w *Watch) Run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { w.nodes.RunWithContext(ctx) })
	group.Go(func() { w.pods.RunWithContext(ctx) })
	group.Go(func() { w.probe(ctx) })
	group.Go(func() {
		defer stop()
		err = w.lookBack(ctx)
	})
	group.Go(func() { w.stayAwake(ctx) })
	group.Go(func() { w.publish(ctx) })
	group.Wait()
	return err
}

func (w *Watch) publish(ctx context.Context) {
	known := func() bool { return w.version.asked() && (w.Around == nil || w.Around.Known()) }
	if !cache.WaitForCacheSync(ctx.Done(), w.listed[0].HasSynced, w.listed[1].HasSynced, known) {
		return
	}
	w.tell()
	w.mu.Lock()
	w.health.Synced = true
	w.mu.Unlock()
	w.Log.Info("Lower cluster is synced", "nodes", len(w.nodes.GetStore().ListKeys()))
	least := cmp.Or(w.Pause, publishDelay)
	delay := least
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = max(least, publishShare*w.tell())
	}
}

// tell hands over what has changed, and returns how long that took.
func (w *Watch) tell() (worked time.Duration) {
	started := time.Now()
	w.rowsMu.Lock()
	w.lookAround()
	if w.Apply != nil {
		changes := w.rows.Fetch()
		w.rowsMu.Unlock()
		worked = time.Since(started)
		return worked + w.Apply(changes)
	}
	s := w.rows.Snapshot()
	w.rowsMu.Unlock()
	w.Publish(s)
	return time.Since(started)
}

// lookAround has the rows know of what is beside them, where that has changed. The caller holds rowsMu.
func (w *Watch) lookAround() {
	version := w.Version()
	seen, around := seenAround{version: version.String()}, snapshot.Surroundings{Version: version}
	if w.Around != nil {
		seen.around = w.Around.Version() // First: what changes meanwhile is looked at again.
	}
	if w.around == seen && w.looked {
		return
	}
	w.around, w.looked = seen, true
	if w.Around != nil {
		around.Namespaces, around.Devices = w.Around.Namespaces(), w.Around.Devices()
	}
	w.rows.SetAround(around)
}

// seenAround says which state of it the rows know.
type seenAround struct {
	version string
	around  uint64
}

// see notes an event and asks for the change to be told, if there is one. A watch that is open outlives the credentials it was
// opened with: its events do not make up for a probe that was turned away.
func (w *Watch) see(changed bool) {
	w.mu.Lock()
	if w.health.Unauthorized() {
		w.said(time.Now())
	} else {
		w.heard(time.Now())
	}
	w.mu.Unlock()
	if changed {
		w.Touch()
	}
}

// Touch asks for all changes to be told.
func (w *Watch) Touch() {
	select {
	case w.wake <- struct{}{}:
	default: // One is asked for already.
	}
}

func (w *Watch) watchFailed(ctx context.Context, reflector *cache.Reflector, err error) {
	if ctx.Err() == nil {
		w.Log.Warn("Watching lower cluster failed, trying again", "err", err)
		cache.DefaultWatchErrorHandler(ctx, reflector, err)
	}
}

// podEntry is what is kept of a lower pod: identity for the cache, the reduced pod and, see Keep, the whole one.
type podEntry struct {
	metav1.ObjectMeta
	pod   *snapshot.LowerPod
	whole *corev1.Pod
}

// inPlace reports whether a pod may stand for the upper pod that it names: it has that one's name, in a namespace whose name ends
// in that of the upper one (translate.Rules.LowerNamespace; long names are cut). Anybody below can write our marks on a pod.
func inPlace(pod *corev1.Pod) bool {
	const cut = 40 // what is left of the name of a namespace, at the least, that was too long
	upper := pod.Annotations[keys.UpperNamespace]
	return pod.Annotations[keys.UpperName] == pod.Name && upper != "" &&
		(strings.HasSuffix(pod.Namespace, upper) || len(pod.Namespace) >= cut)
}

func (w *Watch) trimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil // Already trimmed.
	}
	meta := metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion}
	pod.ManagedFields = nil
	identity := w.Identity
	if !inPlace(pod) {
		identity = "" // It is somebody else's, whatever it says.
	}
	entry := &podEntry{ObjectMeta: meta, pod: snapshot.NewLowerPod(pod, identity)}
	if w.keep != nil && w.keep(pod) {
		entry.whole = pod
	}
	return entry, nil
}

func trimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	trimmed := snapshot.TrimNode(node)
	trimmed.ResourceVersion, trimmed.UID = node.ResourceVersion, node.UID
	trimmed.Spec.PodCIDRs = node.Spec.PodCIDRs
	trimmed.Status.Allocatable = node.Status.Allocatable
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			trimmed.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return trimmed, nil
}
