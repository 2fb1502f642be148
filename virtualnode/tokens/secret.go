package tokens

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// labels are those of the Secrets of the virtual node's tokens.
func (s Setup) labels() labels.Set {
	return labels.Set{keys.Upper: s.Identity, keys.VirtualNode: s.Name, keys.Token: string(translate.TokenUpper)}
}

// requestFor asks for a token that is bound to its pod.
func requestFor(upper *corev1.Pod, token translate.AccountToken) *authenticationv1.TokenRequest {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &token.Seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: upper.Name, UID: upper.UID},
	}}
	if token.Audience != "" {
		request.Spec.Audiences = []string{token.Audience}
	}
	return request
}

// secret is the lower Secret with the tokens of an upper pod.
func (k *Keeper) secret(upper *corev1.Pod, data map[string][]byte, refresh time.Time) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: k.Target().Rules.LowerNamespace(upper.Namespace), Name: translate.TokenSecret(upper),
			Labels: k.labels(),
			Annotations: map[string]string{
				keys.UpperNamespace: upper.Namespace, keys.UpperName: upper.Name, keys.UpperUID: string(upper.UID),
				keys.RefreshAfter: refresh.UTC().Format(time.RFC3339), keys.UpperSum: sum(data),
			},
		},
		Type: corev1.SecretTypeOpaque, Data: data,
	}
}

// sum says whether the content is what we wrote. Tokens cannot be guessed, so it tells nothing of them.
func sum(data map[string][]byte) string {
	all := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		one := sha256.Sum256(data[key])
		all.Write([]byte(key + "\x00"))
		all.Write(one[:])
	}
	return hex.EncodeToString(all.Sum(nil))
}

// changed marks a Secret in the cache whose content is not what we wrote.
const changed = "changed"

// typeTrimmed is the type of a Secret in the cache, whose content has been looked at and let go.
const typeTrimmed corev1.SecretType = "trimmed"

// trim is the transform of the informer: no token is kept in memory.
func trim(object any) (any, error) {
	secret, ok := object.(*corev1.Secret)
	if !ok || secret.Type == typeTrimmed {
		return object, nil
	}
	return trimmed(secret), nil
}

func trimmed(secret *corev1.Secret) *corev1.Secret {
	kept := &corev1.Secret{Type: typeTrimmed, ObjectMeta: metav1.ObjectMeta{
		Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID, ResourceVersion: secret.ResourceVersion,
		Labels: secret.Labels, Annotations: maps.Clone(secret.Annotations),
	}}
	if sum(secret.Data) != secret.Annotations[keys.UpperSum] {
		metav1.SetMetaDataAnnotation(&kept.ObjectMeta, keys.UpperSum, changed)
	}
	return kept
}

// fresh is how long the tokens of a Secret need not be made anew; 0 if they are to be now.
func fresh(secret *corev1.Secret) time.Duration {
	at, err := time.Parse(time.RFC3339, secret.Annotations[keys.RefreshAfter])
	if err != nil || secret.Annotations[keys.UpperSum] == changed {
		return 0
	}
	return max(0, time.Until(at))
}

// byUpper is the function of the index pair.ByUpper.
func byUpper(object any) ([]string, error) {
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return nil, nil
	}
	return []string{pair.UpperKey(secret)}, nil
}

// present are the Secrets for upper pods of a key.
func (k *Keeper) present(key string) (secrets []*corev1.Secret) {
	objects, _ := k.secrets.GetIndexer().ByIndex(pair.ByUpper, key) // The index exists.
	for _, object := range objects {
		secrets = append(secrets, object.(*corev1.Secret))
	}
	return secrets
}
