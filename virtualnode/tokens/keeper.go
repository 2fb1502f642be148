package tokens

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/queue"
)

// Times of a keeper.
const (
	firstRetry   = time.Second
	slowestRetry = time.Minute
)

// reasonNotRefreshed is that of the event on a pod whose tokens cannot be made anew.
const reasonNotRefreshed = "TokenNotRefreshed"

// ErrRefused is a token that the upper cluster does not give.
var ErrRefused = errors.New("the upper cluster gives no token of the pod's ServiceAccount")

// Below is a cache of lower pods with the index pair.ByUpper.
type Below interface {
	ByIndex(index, value string) ([]any, error)
	HasSynced() bool
}

// Above is a cache of upper pods.
type Above interface {
	GetByKey(key string) (any, bool, error)
}

// Setup is what a keeper works between and with.
type Setup struct {
	// Name is that of the virtual node, Identity that of the upper cluster.
	Name, Identity string
	// Target is the virtual node as it is labelled now.
	Target       func() translate.Target
	Upper, Lower kubernetes.Interface
	// Above are the upper pods bound to the virtual node, Below the lower pods that came through it.
	Above  Above
	Below  Below
	Synced cache.InformerSynced // of Above
	// Welcome reports whether an upper pod may go below.
	Welcome func(upper *corev1.Pod) bool
	// Barred reports whether nothing may be done in the lower cluster.
	Barred func() bool
	// RefreshAfter is the age at which tokens are made anew; 0 is half of their life.
	RefreshAfter time.Duration
	Events       record.EventRecorder
	Log          *slog.Logger
}

// Keeper looks after the tokens of the pods of one virtual node. Its queue holds keys of upper pods.
type Keeper struct {
	Setup
	queue   *queue.Queue
	secrets cache.SharedIndexInformer
	locks   [64]sync.Mutex // one at a time makes the tokens of a pod
}

// New returns a keeper that does nothing before Run, but for Bring.
func New(setup Setup) (*Keeper, error) {
	k := &Keeper{
		Setup: setup, queue: queue.New("token", setup.Log, firstRetry, slowestRetry),
		secrets: coreinformers.NewFilteredSecretInformer(setup.Lower, "", 0, cache.Indexers{pair.ByUpper: byUpper},
			func(o *metav1.ListOptions) { o.LabelSelector = setup.labels().String() }),
	}
	if err := k.secrets.SetTransform(trim); err != nil {
		return nil, fmt.Errorf("watching tokens of %s: %w", setup.Name, err)
	}
	_, err := k.secrets.AddEventHandler(tombstone.Handler(func(s *corev1.Secret) { k.queue.Add(pair.UpperKey(s)) }))
	if err != nil {
		return nil, fmt.Errorf("watching tokens of %s: %w", setup.Name, err)
	}
	return k, nil
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { k.secrets.RunWithContext(ctx) })
	group.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), k.secrets.HasSynced, k.Synced, k.Below.HasSynced) {
			k.queue.Work(ctx, k.reconcile)
		}
	})
	group.Go(func() { queue.Resync(ctx, k.every, func(key string) { k.queue.Add(key) }) })
	<-ctx.Done()
	k.queue.ShutDown()
	group.Wait()
}

// every is the keys of the upper pods that have tokens below; pods that should have and do not are looked at by their events.
func (k *Keeper) every() []string { return k.secrets.GetIndexer().ListIndexFuncValues(pair.ByUpper) }

// Look has the tokens of an upper pod looked at, the namespace/name of which is the key. Pods that have none cost nothing.
func (k *Keeper) Look(pod *corev1.Pod, key string) {
	if k.mounts(pod) || len(k.present(key)) > 0 {
		k.queue.Add(key)
	}
}

// mounts reports whether a pod has volumes that tokens are put into: an upper one, or a lower one.
func (k *Keeper) mounts(pod *corev1.Pod) bool {
	if _, below := pod.Annotations[keys.UpperUID]; below {
		return false // Its Secret tells of it, or the upper pod does.
	}
	return len(k.Target().AccountTokens(pod)) > 0
}

// Bring sees to it that the tokens of an upper pod are below, before the pod is. Its error is ErrRefused, pair.ErrForeign, or says what
// failed.
func (k *Keeper) Bring(ctx context.Context, upper *corev1.Pod) error {
	wanted := k.Target().AccountTokens(upper)
	if len(wanted) == 0 {
		return nil
	}
	_, err := k.provide(ctx, upper, wanted)
	return err
}

// reconcile brings the tokens of one upper pod in line.
func (k *Keeper) reconcile(ctx context.Context, key string) (again time.Duration, err error) {
	if k.Barred() {
		return 2 * time.Second, nil
	}
	upper := k.upper(key)
	for _, secret := range k.present(key) {
		if !k.needed(secret, upper, key) {
			if err := k.remove(ctx, secret); err != nil {
				return 0, err
			}
		}
	}
	if upper == nil || snapshot.Finished(upper) || !k.Welcome(upper) || !k.below(key, upper.UID) {
		return 0, nil // Before it is below, Bring does what is needed.
	}
	wanted := k.Target().AccountTokens(upper)
	if len(wanted) == 0 {
		return 0, nil
	}
	again, err = k.provide(ctx, upper, wanted)
	if errors.Is(err, ErrRefused) {
		k.Events.Event(upper, corev1.EventTypeWarning, reasonNotRefreshed,
			"The pod keeps the tokens of its ServiceAccount until they end: "+err.Error())
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, nil
	}
	return again, err
}

// needed reports whether a Secret is of use: to the upper pod, which may be nil, if that gets tokens, and to a lower pod whose upper
// one is out of sight, as it may be back.
func (k *Keeper) needed(secret *corev1.Secret, upper *corev1.Pod, key string) bool {
	uid := types.UID(secret.Annotations[keys.UpperUID])
	if upper != nil && upper.UID == uid {
		return !snapshot.Finished(upper) && len(k.Target().AccountTokens(upper)) > 0
	}
	return k.below(key, uid)
}

func (k *Keeper) upper(key string) *corev1.Pod {
	object, ok, _ := k.Above.GetByKey(key) // A cache never fails.
	if !ok {
		return nil
	}
	return object.(*corev1.Pod)
}

// below reports whether the pod of an upper one is below.
func (k *Keeper) below(key string, uid types.UID) bool {
	objects, _ := k.Below.ByIndex(pair.ByUpper, key) // The index exists.
	for _, object := range objects {
		if pod := object.(*corev1.Pod); pair.UpperUID(pod) == uid && !snapshot.Finished(pod) {
			return true
		}
	}
	return false
}

// provide makes the tokens that a pod is to have, unless those that it has are young enough; again is when they will not be any more.
func (k *Keeper) provide(ctx context.Context, upper *corev1.Pod, wanted []translate.AccountToken) (again time.Duration, err error) {
	lock := &k.locks[maphash.Comparable(seed, upper.UID)%uint64(len(k.locks))]
	lock.Lock()
	defer lock.Unlock()
	name := translate.TokenSecret(upper)
	for _, secret := range k.present(pair.KeyOf(upper)) {
		if left := fresh(secret); secret.Name == name && left > 0 {
			return left, nil
		}
	}
	found, err := k.live(ctx, name, upper)
	if err != nil {
		return 0, err
	}
	if found != nil && fresh(found) > 0 { // The cache is behind.
		return fresh(found), nil
	}
	data, life := map[string][]byte{}, time.Duration(0)
	for _, token := range wanted {
		text, lasts, err := k.request(ctx, upper, token)
		if err != nil {
			return 0, err
		}
		data[token.Key] = []byte(text)
		if life == 0 || lasts < life {
			life = lasts
		}
	}
	again = life / 2
	if k.RefreshAfter > 0 && k.RefreshAfter < again {
		again = k.RefreshAfter
	}
	return again, k.put(ctx, k.secret(upper, data, time.Now().Add(again)), found)
}

// live is the Secret of an upper pod's tokens as it is below, without what it holds, or nil.
func (k *Keeper) live(ctx context.Context, name string, upper *corev1.Pod) (*corev1.Secret, error) {
	secret, err := k.Lower.CoreV1().Secrets(k.Target().Rules.LowerNamespace(upper.Namespace)).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s below: %w", name, err)
	}
	for label, value := range k.labels() {
		if secret.Labels[label] != value {
			return nil, fmt.Errorf("writing Secret %s below: %w", name, pair.ErrForeign)
		}
	}
	return trimmed(secret), nil
}

var seed = maphash.MakeSeed()

// request asks the upper cluster for a token that ends with the pod. lasts is what it was granted for: the server's clock may be
// another one than ours.
func (k *Keeper) request(
	ctx context.Context, upper *corev1.Pod, token translate.AccountToken,
) (text string, lasts time.Duration, err error) {
	account, accounts := upper.Spec.ServiceAccountName, k.Upper.CoreV1().ServiceAccounts(upper.Namespace)
	answer, err := accounts.CreateToken(ctx, account, requestFor(upper, token), metav1.CreateOptions{})
	switch {
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsNotFound(err):
		return "", 0, fmt.Errorf("%w, %s: %w", ErrRefused, account, err)
	case err != nil:
		return "", 0, fmt.Errorf("requesting a token of ServiceAccount %s/%s: %w", upper.Namespace, account, err)
	}
	lasts = time.Duration(token.Seconds) * time.Second
	if granted := answer.Spec.ExpirationSeconds; granted != nil && *granted > 0 {
		lasts = time.Duration(*granted) * time.Second
	}
	return answer.Status.Token, lasts, nil
}

// put writes a Secret below, in place of what was found there.
func (k *Keeper) put(ctx context.Context, secret, found *corev1.Secret) error {
	secrets := k.Lower.CoreV1().Secrets(secret.Namespace)
	if found == nil {
		_, err := secrets.Create(ctx, secret, metav1.CreateOptions{})
		return doing("creating", secret, err)
	}
	secret.ResourceVersion = found.ResourceVersion
	_, err := secrets.Update(ctx, secret, metav1.UpdateOptions{})
	return doing("updating", secret, err)
}

// remove deletes a Secret as it was seen.
func (k *Keeper) remove(ctx context.Context, secret *corev1.Secret) error {
	return doing("deleting", secret, pair.Remove(ctx, k.Lower.CoreV1().Secrets(secret.Namespace), secret))
}

func doing(what string, secret *corev1.Secret, err error) error {
	return pair.Doing(what, "Secret", secret, err)
}
