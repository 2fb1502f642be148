package lower

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/tombstone"
)

// Keys of a Secret that holds a renewed token.
const (
	TokenKey = "token"
	RootKey  = "root" // see Renewed
)

// Renewed is a token in place of that in a kubeconfig. It holds for that one alone, so that whoever writes another token into the
// kubeconfig has that used, whatever was renewed before.
type Renewed struct {
	Token string
	// Root is the digest of the token in the kubeconfig that this one descends from.
	Root string
}

// over is the token to use where the kubeconfig holds inFile.
func (r Renewed) over(inFile string) string {
	if r.Root != digest(inFile) || !lifeOf(r.Token).Ends.After(lifeOf(inFile).Ends) {
		return inFile
	}
	return r.Token
}

// digest tells tokens apart without showing them.
func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// TokenSecret is the name of the Secret that holds the renewed token of a cluster.
func TokenSecret(cluster string) string { return "tessera-token-" + cluster }

// WatchTokens hands the tokens on that virtualnode has renewed, which stand in Secrets of the install namespace, until ctx ends. Where
// they may not be read, clusters go on with those of their kubeconfigs, which the log says once.
func WatchTokens(
	ctx context.Context, client kubernetes.Interface, namespace string, log *slog.Logger, offer func(cluster string, renewed Renewed),
) error {
	informer := coreinformers.NewFilteredSecretInformer(client, namespace, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.LabelSelector = keys.TokenOf
	})
	var once sync.Once
	if err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		if ctx.Err() == nil {
			once.Do(func() {
				log.Warn("Renewed tokens cannot be read, those of the kubeconfigs are used", "namespace", namespace, "err", err)
			})
		}
	}); err != nil {
		return fmt.Errorf("watching renewed tokens: %w", err)
	}
	take := func(object any, gone bool) {
		last, _ := tombstone.Unwrap(object)
		secret, ok := last.(*corev1.Secret)
		if !ok {
			return
		}
		renewed := Renewed{Token: string(secret.Data[TokenKey]), Root: string(secret.Data[RootKey])}
		if gone {
			renewed = Renewed{}
		}
		offer(secret.Labels[keys.TokenOf], renewed)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { take(object, false) },
		UpdateFunc: func(_, object any) { take(object, false) },
		DeleteFunc: func(object any) { take(object, true) },
	}); err != nil {
		return fmt.Errorf("watching renewed tokens: %w", err)
	}
	informer.RunWithContext(ctx)
	return nil
}
