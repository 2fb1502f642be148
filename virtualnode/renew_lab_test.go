package virtualnode_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/keyutil"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/registry"
)

// A token that has almost ended is renewed, what watches goes on with the new one when the old has ended, and whoever writes another
// into the kubeconfig has that used.
func TestATokenIsRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, own(t, lab.Options{Lower: 1, Nodes: 1, Parts: []string{lab.PartExtender, lab.PartVirtualNode}}))
	name := w.lab.LowerName(1)
	good, write := w.kubeconfig(1)
	old := w.token(1, time.Now().Add(-20*time.Second)) // API servers take a token for a minute longer.
	kubeconfig, err := clientcmd.Load(good)
	if err != nil {
		w.Fatal(err)
	}
	kubeconfig.AuthInfos[kubeconfig.Contexts[kubeconfig.CurrentContext].AuthInfo].Token = old
	short, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		w.Fatal(err)
	}
	write(short)
	node := w.node(name, func(node *corev1.Node) error {
		if nodeCondition(node, keys.CredentialsEnding).Status != corev1.ConditionTrue {
			return errors.New("the node does not say that the token ends")
		}
		return nil
	})
	uid := node.UID
	var secret *corev1.Secret
	lab.Eventually(w.T, lostPatience, func() (err error) {
		secret, err = w.upper.CoreV1().Secrets(keys.Namespace).Get(w.Context(), registry.TokenSecret(name), metav1.GetOptions{})
		return err
	})
	if token := string(secret.Data[registry.TokenKey]); token == old || strings.Count(token, ".") != 2 {
		w.Error("the Secret holds no new token")
	}
	for _, part := range []string{lab.PartVirtualNode, lab.PartExtender} {
		log, err := os.ReadFile(w.lab.Process(part).LogFile())
		if err != nil {
			w.Fatal(err)
		}
		if strings.Contains(string(log), old) || strings.Contains(string(log), string(secret.Data[registry.TokenKey])) {
			w.Errorf("the log of %s shows a token", part)
		}
	}
	config := rest.AnonymousClientConfig(w.lab.Lower(1))
	config.BearerToken = old
	lab.Eventually(w.T, 2*lostPatience, func() error { // It remembers for ten seconds that a token is good.
		_, err := client(w.T, config).CoreV1().Nodes().List(w.Context(), metav1.ListOptions{Limit: 1})
		if !apierrors.IsUnauthorized(err) {
			return errors.Join(errors.New("the old token has not ended"), err)
		}
		return nil
	})
	for _, part := range []string{lab.PartVirtualNode, lab.PartExtender} { // Which begin with the new one.
		if err := errors.Join(w.lab.StopPart(part), w.lab.StartPart(w.Context(), part)); err != nil {
			w.Fatal(err)
		}
	}
	w.create(w.pod("renewed", 1))
	w.becomes(w.upper, "renewed", "Running", running)
	w.node(name, func(node *corev1.Node) error {
		if c := nodeCondition(node, keys.Usable); c.Status != corev1.ConditionTrue || node.UID != uid {
			return fmt.Errorf("usable: %s %s", c.Reason, c.Message)
		}
		if c := nodeCondition(node, keys.CredentialsEnding); c.Status != corev1.ConditionFalse {
			return fmt.Errorf("the token that was renewed is said to end: %s", c.Message)
		}
		return nil
	})
	write(revoked(good))
	w.nodeUsable(name, "CredentialsExpired")
	write(good)
	lab.Eventually(w.T, lostPatience, func() error { return readyAgain(w, name) })
}

// token is one of the account of Tessera on a lower cluster that was issued an hour ago, signed as its API server signs them.
func (w *world) token(k int, end time.Time) string {
	w.Helper()
	key, err := keyutil.PrivateKeyFromFile(filepath.Join(w.lab.Dir(), "pki", w.lab.LowerName(k), "sa.key"))
	if err != nil {
		w.Fatal(err)
	}
	account, err := w.lower(k).CoreV1().ServiceAccounts(keys.Namespace).Get(w.Context(), "tessera", metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	const issuer = "https://kubernetes.default.svc.cluster.local"
	begin := time.Now().Add(-time.Hour).Unix()
	part := func(content map[string]any) string {
		text, err := json.Marshal(content)
		if err != nil {
			w.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(map[string]any{"alg": "ES256", "typ": "JWT"}) + "." + part(map[string]any{
		"iss": issuer, "aud": []string{issuer}, "iat": begin, "nbf": begin, "exp": end.Unix(),
		"sub": "system:serviceaccount:" + keys.Namespace + ":tessera",
		"kubernetes.io": map[string]any{
			"namespace": keys.Namespace, "serviceaccount": map[string]any{"name": "tessera", "uid": account.UID},
		},
	})
	sum := sha256.Sum256([]byte(text))
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		w.Fatalf("the key that signs tokens is a %T", key)
	}
	r, z, err := ecdsa.Sign(rand.Reader, signer, sum[:])
	if err != nil {
		w.Fatal(err)
	}
	signature := make([]byte, 64) // RFC 7518, 3.4: both numbers in 32 bytes each.
	r.FillBytes(signature[:32])
	z.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}
