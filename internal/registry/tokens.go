package registry

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/tombstone"
)

// TokenKey is the key of a Secret that holds a renewed token.
const TokenKey = "token"

// choose says which token to use where a kubeconfig holds inFile and another was offered: that which ends later, so that whatever puts
// an old kubeconfig back does no harm; and the other, if the API server does not take that, as that of a cluster built anew. One of
// another account, or that does not end, is in the kubeconfig because somebody means it.
func choose(inFile, offered string) tokens {
	mine, other := lifeOf(inFile), lifeOf(offered)
	if mine.Ends.IsZero() || mine.Namespace != other.Namespace || mine.Account != other.Account || !other.Ends.After(mine.Ends) {
		return tokens{first: inFile}
	}
	return tokens{first: offered, other: inFile}
}

// TokenSecret is the name of the Secret that holds the renewed token of a cluster.
func TokenSecret(cluster string) string { return "tessera-token-" + cluster }

// tokensPatience is how long clusters wait for renewed tokens at a start: those of their kubeconfigs have mostly ended.
const tokensPatience = 5 * time.Second

// RunWithTokens is Run with the tokens that virtualnode has renewed, which stand in Secrets of the install namespace. Where they may
// not be read, clusters go on with those of their kubeconfigs, which the log says once.
func (f *Folder) RunWithTokens(ctx context.Context, client kubernetes.Interface, namespace string) error {
	informer := coreinformers.NewFilteredSecretInformer(client, namespace, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.LabelSelector = keys.TokenOf
	})
	var once sync.Once
	if err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		if ctx.Err() == nil {
			once.Do(func() {
				f.Log.Warn("Renewed tokens cannot be read, those of the kubeconfigs are used", "namespace", namespace, "err", err)
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
		token := string(secret.Data[TokenKey])
		if gone {
			token = ""
		}
		f.Offer(secret.Labels[keys.TokenOf], token)
	}
	registered, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { take(object, false) },
		UpdateFunc: func(_, object any) { take(object, false) },
		DeleteFunc: func(object any) { take(object, true) },
	})
	if err != nil {
		return fmt.Errorf("watching renewed tokens: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { informer.RunWithContext(ctx) })
	patient, end := context.WithTimeout(ctx, tokensPatience)
	cache.WaitForCacheSync(patient.Done(), registered.HasSynced)
	end()
	return f.Run(ctx)
}
