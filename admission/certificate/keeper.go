package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Times between two looks at the Secret and the webhook configuration, at most, and after one that failed.
const (
	lookEvery  = 10 * time.Second
	retryAfter = time.Second
)

// pause is between two looks: some fit into an overlap, so that what is new is everywhere before it counts.
func (k *Keeper) pause() time.Duration {
	if k.Lives.Overlap <= 0 {
		return lookEvery
	}
	return min(lookEvery, k.Lives.Overlap/4)
}

// Keeper keeps a certificate in a Secret, and its authority in a webhook configuration. Every replica has one; whoever comes first
// writes, and all serve what the Secret has.
type Keeper struct {
	Client kubernetes.Interface
	Log    *slog.Logger
	// Namespace and Secret are where the certificate is.
	Namespace, Secret string
	// Webhooks is the MutatingWebhookConfiguration whose webhooks are called with this certificate.
	Webhooks string
	// Names are the DNS names and IP addresses that it is for.
	Names []string
	Lives Lives

	serving atomic.Pointer[tls.Certificate]
}

// Certificate returns what is to be served: that of the Secret as it was last read. It never blocks.
func (k *Keeper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if serving := k.serving.Load(); serving != nil {
		return serving, nil
	}
	return nil, errors.New("there is no serving certificate yet")
}

// Run looks after the certificate until ctx ends. What fails is tried again for ever; meanwhile the last certificate is served.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		again := k.pause()
		if err := k.look(ctx); err != nil {
			again = retryAfter
			k.Log.Error("Looking after the serving certificate failed, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
}

// look does once what is due. That another replica was faster is no failure: what it has written is there the next time.
func (k *Keeper) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	data, err := k.keep(ctx)
	if err != nil {
		return err
	}
	serving, err := tls.X509KeyPair(data[certKey], data[keyKey])
	if err != nil {
		return fmt.Errorf("reading the serving certificate of Secret %s: %w", k.Secret, err)
	}
	if before := k.serving.Swap(&serving); before == nil || !before.Leaf.Equal(serving.Leaf) {
		k.Log.Info("Serving another certificate", "until", serving.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return k.announce(ctx, data[BundleKey])
}

// keep returns what the Secret holds, after what is due.
func (k *Keeper) keep(ctx context.Context) (map[string][]byte, error) {
	secrets := k.Client.CoreV1().Secrets(k.Namespace)
	secret, err := secrets.Get(ctx, k.Secret, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return nil, fmt.Errorf("reading Secret %s: %w", k.Secret, err)
	}
	wanted, err := renew(time.Now(), secret.Data, k.Names, k.Lives)
	if err != nil {
		return nil, fmt.Errorf("renewing the serving certificate: %w", err)
	}
	switch {
	case missing:
		secret, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: k.Secret, Labels: map[string]string{"app.kubernetes.io/part-of": "tessera"}},
			Type:       corev1.SecretTypeTLS, Data: wanted,
		}, metav1.CreateOptions{})
	case maps.EqualFunc(secret.Data, wanted, bytes.Equal):
		return secret.Data, nil
	default:
		secret.Data = wanted
		secret, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("writing Secret %s: %w", k.Secret, err)
	}
	k.Log.Info("Renewed the serving certificate or its authority", "secret", k.Secret)
	return secret.Data, nil
}

// announce has API servers believe the authorities of the bundle.
func (k *Keeper) announce(ctx context.Context, bundle []byte) error {
	client := k.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	configuration, err := client.Get(ctx, k.Webhooks, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading webhook configuration %s: %w", k.Webhooks, err)
	}
	changed := false
	for i := range configuration.Webhooks {
		if hook := &configuration.Webhooks[i].ClientConfig; !bytes.Equal(hook.CABundle, bundle) {
			hook.CABundle, changed = bundle, true
		}
	}
	if !changed {
		return nil
	}
	if _, err := client.Update(ctx, configuration, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing the CA bundle of webhook configuration %s: %w", k.Webhooks, err)
	}
	k.Log.Info("Wrote the CA bundle of the webhooks", "configuration", k.Webhooks)
	return nil
}
