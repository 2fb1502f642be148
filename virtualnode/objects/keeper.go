package objects

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/queue"
)

// Times of a keeper.
const (
	firstRetry   = 200 * time.Millisecond
	slowestRetry = 30 * time.Second
	gather       = 100 * time.Millisecond // changes of so long are brought down in one write
)

// ErrUnread is an object of which the upper cluster does not say whether it is there.
var ErrUnread = errors.New("the upper cluster does not let it be read")

// Pods is a cache of pods with the index ByObject.
type Pods interface {
	ByIndex(index, value string) ([]any, error)
	ListIndexFuncValues(index string) []string
	HasSynced() bool
}

// Setup is what a keeper works between and with.
type Setup struct {
	// Name is that of the virtual node.
	Name string
	// Target is the virtual node as it is labelled now.
	Target  func() translate.Target
	Lower   kubernetes.Interface
	Sources *Sources
	// Above are the upper pods bound to the virtual node, Below the lower pods that came through it.
	Above, Below Pods
	// Absent is how long an object that was not seen to go above may be missing there before it is taken away below: an upper cluster
	// that was restored or built anew gets it back in a while.
	Absent time.Duration
	// Welcome reports whether an upper pod may go below: whether its namespace has opted in.
	Welcome func(upper *corev1.Pod) bool
	// Barred reports whether nothing may be done in the lower cluster.
	Barred func() bool
	// OwnNames are names of objects that each cluster publishes itself: a pod that names one means the lower cluster's.
	OwnNames []string
	Log      *slog.Logger
}

// Keeper looks after the objects below that pods of one virtual node name.
//
// Its queue holds keys of upper objects. Several keepers may look after one object below, those of virtual nodes that lead to the
// same lower cluster: each notes on it that it needs it, and the last one takes it away.
type Keeper struct {
	Setup
	queue *queue.Queue
	rooms map[string]room
	below map[string]cache.SharedIndexInformer // by kind

	locks [64]sync.Mutex // one at a time writes an object
}

// New returns a keeper that does nothing before Run.
func New(setup Setup, identity string) (*Keeper, error) {
	ours := func(o *metav1.ListOptions) {
		o.LabelSelector = labels.Set{keys.Upper: identity}.String() + ",!" + keys.Token // Those are made, not brought.
	}
	k := &Keeper{
		Setup: setup, queue: queue.New("object", setup.Log, firstRetry, slowestRetry), rooms: rooms(setup.Lower),
		below: map[string]cache.SharedIndexInformer{
			translate.KindConfigMap: coreinformers.NewFilteredConfigMapInformer(setup.Lower, "", 0, cache.Indexers{}, ours),
			translate.KindSecret:    coreinformers.NewFilteredSecretInformer(setup.Lower, "", 0, cache.Indexers{}, ours),
		},
	}
	for kind, informer := range k.below {
		if err := informer.SetTransform(trim); err != nil {
			return nil, fmt.Errorf("watching %ss of %s: %w", kind, setup.Name, err)
		}
		if _, err := informer.AddEventHandler(tombstone.Handler(func(h *held) { k.Look(h.key()) })); err != nil {
			return nil, fmt.Errorf("watching %ss of %s: %w", kind, setup.Name, err)
		}
	}
	return k, nil
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var group sync.WaitGroup
	synced := []cache.InformerSynced{k.Above.HasSynced, k.Below.HasSynced}
	for _, informer := range k.below {
		synced = append(synced, informer.HasSynced)
		group.Go(func() { informer.RunWithContext(ctx) })
	}
	group.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), synced...) {
			k.queue.Work(ctx, k.reconcile)
		}
	})
	group.Go(func() { queue.Resync(ctx, k.every, func(key string) { k.queue.Add(key) }) })
	<-ctx.Done()
	k.queue.ShutDown()
	group.Wait()
}

// every is the keys of all objects, above and below.
func (k *Keeper) every() []string {
	all := k.Above.ListIndexFuncValues(ByObject)
	for _, informer := range k.below {
		for _, object := range informer.GetStore().List() {
			all = append(all, object.(*held).key().String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Look has an object looked at. Sources calls it with every change.
func (k *Keeper) Look(key Key) { k.queue.AddAfter(key.String(), gather) }

// LookAbove has what an upper pod names looked at, LookBelow what a lower one does.
func (k *Keeper) LookAbove(upper *corev1.Pod) { k.lookAll(namedAbove(upper, k.Target())) }

// LookBelow is LookAbove for a lower pod.
func (k *Keeper) LookBelow(lower *corev1.Pod) { k.lookAll(namedBelow(lower)) }

func (k *Keeper) lookAll(all []Key) {
	for _, key := range all {
		k.Look(key)
	}
}

// Leave ends all that the keeper watches above. Nobody calls Bring any more.
func (k *Keeper) Leave() { k.Sources.LeaveAll(k) }

func (k *Keeper) own(key Key) bool { return slices.Contains(k.OwnNames, key.Name) }

func (k *Keeper) reconcile(ctx context.Context, text string) (again time.Duration, err error) {
	if k.Barred() {
		return 2 * time.Second, nil
	}
	key, err := parseKey(text)
	if err != nil {
		return 0, nil //nolint:nilerr // Somebody changed our annotations below: it stands for nothing.
	}
	again, err = k.bring(ctx, key, false)
	switch {
	case errors.Is(err, translate.ErrAccountToken), errors.Is(err, pair.ErrForeign), errors.Is(err, ErrUnread):
		return 0, nil // Told on the pods that name it.
	case apierrors.IsNotFound(err):
		return 0, nil // The namespace is made with the first pod, and has gone with the last.
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return 0, nil
	}
	return again, err
}

// bring brings one object in line. ahead: a pod that names it is about to be created, and may be.
func (k *Keeper) bring(ctx context.Context, key Key, ahead bool) (again time.Duration, err error) {
	defer k.lock(key)()
	if k.own(key) {
		return 0, nil
	}
	named, below := k.need(key)
	switch {
	case !named && k.usedBelow(key):
		// The pods above have gone, and those below are somebody else's matter, as orphans or as forgeries: hands off.
		k.Sources.Leave(key, k)
		return 0, nil
	case !named:
		k.Sources.Leave(key, k)
		return 0, k.drop(ctx, key)
	}
	k.Sources.Use(key, k)
	upper, known, err := k.Sources.Get(key)
	switch {
	case err != nil:
		return 0, fmt.Errorf("reading %s %s/%s above: %w", key.Kind, key.Namespace, key.Name, errors.Join(ErrUnread, err))
	case !known:
		return 0, nil // It is looked at again as soon as it is.
	case upper == nil:
		if left := k.Sources.Missing(key, k.Absent); left > 0 {
			return left, nil
		}
		return 0, k.drop(ctx, key)
	case !below && !ahead:
		return 0, nil // No pod may come for it.
	}
	return 0, k.put(ctx, key, upper)
}

func (k *Keeper) lock(key Key) (unlock func()) {
	lock := &k.locks[maphash.Comparable(seed, key)%uint64(len(k.locks))]
	lock.Lock()
	return lock.Unlock
}

var seed = maphash.MakeSeed()

// need says whether a pod above that may go below names the object, and whether one of those is below: what a pod that is refused
// there names does not come either.
func (k *Keeper) need(key Key) (named, below bool) {
	above, _ := k.Above.ByIndex(ByObject, key.String()) // The index exists.
	for _, object := range above {
		pod := object.(*corev1.Pod)
		if !k.Welcome(pod) {
			continue
		}
		named = true
		copies, _ := k.Below.ByIndex(pair.ByUpper, pair.KeyOf(pod))
		if slices.ContainsFunc(copies, func(object any) bool { return pair.UpperUID(object.(*corev1.Pod)) == pod.UID }) {
			return true, true
		}
	}
	return named, false
}

// usedBelow reports whether a pod below names the object.
func (k *Keeper) usedBelow(key Key) bool {
	pods, _ := k.Below.ByIndex(ByObject, key.String())
	return len(pods) > 0
}

// cached is the object below, nil if the cache has none of ours.
func (k *Keeper) cached(key Key) *held {
	namespace := k.Target().Rules.LowerNamespace(key.Namespace)
	object, ok, _ := k.below[key.Kind].GetStore().GetByKey(namespace + "/" + key.Name) // A cache never fails.
	if !ok || object.(*held).key() != key {
		return nil
	}
	return object.(*held)
}

// made is the object as it is to be below.
func (k *Keeper) made(key Key, upper metav1.Object) (metav1.Object, error) {
	switch o := upper.(type) {
	case *corev1.ConfigMap:
		lower := translate.LowerConfigMap(o, k.Target())
		lower.Name, lower.Annotations[keys.UpperName] = key.Name, key.Name // It may be a copy under another name.
		return lower, nil
	case *corev1.Secret:
		return translate.LowerSecret(o, k.Target())
	default:
		return nil, fmt.Errorf("%s: a %T is none", key, upper)
	}
}

// put makes the object below equal to the upper one.
func (k *Keeper) put(ctx context.Context, key Key, upper metav1.Object) error {
	wanted, err := k.made(key, upper)
	if err != nil {
		return errors.Join(err, k.drop(ctx, key)) // It may have been of another type before.
	}
	present := k.cached(key)
	if present == nil {
		pair.SetUsers(wanted, []string{k.Name})
		if err = k.rooms[key.Kind].create(ctx, wanted); !apierrors.IsAlreadyExists(err) {
			return doing("creating", key, err)
		}
		found, err := k.read(ctx, key, wanted.GetNamespace())
		if err != nil {
			return err
		}
		present = holding(found)
	}
	users := pair.WithUser(pair.Users(present), k.Name)
	pair.SetUsers(wanted, users)
	next := holding(wanted)
	if next.sum == present.sum && slices.Equal(users, pair.Users(present)) &&
		present.Annotations[keys.UpperUID] == next.Annotations[keys.UpperUID] {
		return nil
	}
	if next.secret != present.secret || present.immutable && next.sum != present.sum {
		// Neither can be changed: the exception to the rule that nothing is deleted to be created again.
		if err := k.remove(ctx, key, present); err != nil {
			return err
		}
		return doing("replacing", key, k.rooms[key.Kind].create(ctx, wanted))
	}
	wanted.SetResourceVersion(present.ResourceVersion)
	return doing("updating", key, k.rooms[key.Kind].update(ctx, wanted))
}

// doing says what failed, and keeps the error of an object that has changed meanwhile as it is.
func doing(what string, key Key, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s %s/%s below: %w", what, key.Kind, key.Namespace, key.Name, err)
}

// read is the object that has the name below. Its error is pair.ErrForeign for somebody else's.
func (k *Keeper) read(ctx context.Context, key Key, namespace string) (metav1.Object, error) {
	found, err := k.rooms[key.Kind].get(ctx, namespace, key.Name)
	if apierrors.IsNotFound(err) {
		return nil, apierrors.NewConflict(corev1.Resource(strings.ToLower(key.Kind)), key.Name, errors.New("it has just gone"))
	}
	if err != nil {
		return nil, doing("reading", key, err)
	}
	if is := holding(found); is.Labels[keys.Upper] != k.Target().Identity || is.key() != key {
		return nil, fmt.Errorf("%s %s: %w", key.Kind, key.Name, pair.ErrForeign)
	}
	return found, nil
}

// drop takes the object away, or says on it that this virtual node does not need it, where others do.
func (k *Keeper) drop(ctx context.Context, key Key) error {
	present := k.cached(key)
	if present == nil || !slices.Contains(pair.Users(present), k.Name) {
		return nil
	}
	if len(pair.WithoutUser(pair.Users(present), k.Name)) == 0 {
		return k.remove(ctx, key, present)
	}
	found, err := k.read(ctx, key, present.Namespace) // Others write on it, too.
	if err != nil {
		return err
	}
	left := pair.WithoutUser(pair.Users(found), k.Name)
	if len(left) == 0 {
		return k.remove(ctx, key, holding(found))
	}
	pair.SetUsers(found, left)
	return doing("updating", key, k.rooms[key.Kind].update(ctx, found))
}

func (k *Keeper) remove(ctx context.Context, key Key, present *held) error {
	if err := k.rooms[key.Kind].remove(ctx, present); err != nil && !apierrors.IsNotFound(err) {
		return doing("deleting", key, err)
	}
	return nil
}
