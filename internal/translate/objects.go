package translate

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// ErrAccountToken is a Secret that holds the token of a ServiceAccount. It is good for the upper cluster for as long as that lives,
// so it is not handed on.
var ErrAccountToken = errors.New("a Secret of type " + string(corev1.SecretTypeServiceAccountToken) +
	" holds the token of an account of the upper cluster, which is not brought to a lower one")

// LowerConfigMap returns the ConfigMap as it is kept in the lower cluster for pods that name it. What becomes of each field, and
// why, is in testdata/objects.txt.
func LowerConfigMap(upper *corev1.ConfigMap, target Target) *corev1.ConfigMap {
	lower := upper.DeepCopy()
	lower.TypeMeta, lower.ObjectMeta = metav1.TypeMeta{}, objectMeta(upper, target)
	return lower
}

// LowerSecret is LowerConfigMap for a Secret. Its error is ErrAccountToken.
func LowerSecret(upper *corev1.Secret, target Target) (*corev1.Secret, error) {
	if upper.Type == corev1.SecretTypeServiceAccountToken {
		return nil, ErrAccountToken
	}
	lower := upper.DeepCopy()
	lower.TypeMeta, lower.ObjectMeta = metav1.TypeMeta{}, objectMeta(upper, target)
	lower.StringData = nil
	return lower, nil
}

// objectMeta has the marks of ownership alone. Labels and annotations of the user are for controllers of the upper cluster; below
// they might be taken for instructions: to prune what an application does not have, to copy a Secret on.
func objectMeta(upper metav1.Object, target Target) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: upper.GetName(), Namespace: target.Rules.LowerNamespace(upper.GetNamespace()),
		Labels: map[string]string{keys.Upper: target.Identity},
		Annotations: map[string]string{
			keys.UpperNamespace: upper.GetNamespace(), keys.UpperName: upper.GetName(), keys.UpperUID: string(upper.GetUID()),
		},
	}
}
