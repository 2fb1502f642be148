package virtualnode

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/registry"
)

// renewInterval is how often it is looked whether a token is to be renewed, and what failed is tried again.
const renewInterval = 15 * time.Second

// shortestToken is the shortest life that an API server grants.
const shortestToken = 10 * time.Minute

// renewToken renews the token of the lower cluster's kubeconfig after half of its life, until ctx ends: many clusters give one for a
// day at the most, whatever is asked for. The new one goes into a Secret, from which the extender takes it, too; the kubeconfig stays
// as whoever keeps it wants it.
func (v *virtualNode) renewToken(ctx context.Context) {
	ticker := time.NewTicker(renewInterval)
	defer ticker.Stop()
	told := false
	for {
		life := v.server.tokenOf(v.name)
		if at := life.Renew(); !at.IsZero() && time.Now().After(at) && v.reachable() && !v.barred() {
			err := v.renewOnce(ctx, life)
			if err != nil && !told && ctx.Err() == nil {
				v.log.Warn("Renewing the token failed, trying again", "err", err)
			}
			told = err != nil
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (v *virtualNode) renewOnce(ctx context.Context, life registry.Life) error {
	ctx, cancel := context.WithTimeout(ctx, renewInterval)
	defer cancel()
	seconds := int64(max(life.Ends.Sub(life.Issued), shortestToken) / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := v.watch.Client().CoreV1().ServiceAccounts(life.Namespace).CreateToken(ctx, life.Account, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("requesting a token of %s/%s: %w", life.Namespace, life.Account, err)
	}
	if err := v.server.storeToken(ctx, v.name, answer.Status.Token); err != nil {
		return err
	}
	v.log.Info("The token is renewed", "until", answer.Status.ExpirationTimestamp.UTC().Format(time.RFC3339))
	return nil
}

// storeToken writes a renewed token into the Secret of its cluster.
func (s *server) storeToken(ctx context.Context, cluster, token string) error {
	secrets := s.upper.CoreV1().Secrets(s.config.Namespace)
	data := map[string][]byte{registry.TokenKey: []byte(token)}
	labels := map[string]string{keys.TokenOf: cluster, "app.kubernetes.io/part-of": "tessera"}
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		secret, err := secrets.Get(ctx, registry.TokenSecret(cluster), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = secrets.Create(ctx, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: registry.TokenSecret(cluster), Labels: labels}, Data: data,
			}, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		secret.Labels, secret.Data = labels, data
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("writing Secret %s/%s: %w", s.config.Namespace, registry.TokenSecret(cluster), err)
	}
	return nil
}
