package seal

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestDeletionCost: what is farther from where policy and order would have a pod costs less, real nodes cost nothing.
func TestDeletionCost(t *testing.T) {
	t.Parallel()
	type costs map[string]string // by cluster; "" writes nothing
	cases := map[string]struct {
		policy, order, owner, own string
		want                      costs
	}{
		"only":                        {keys.PolicyOnly, "", "ReplicaSet", "", costs{"a": "", "b": ""}},
		"only, in order":              {keys.PolicyOnly, "a, b", "ReplicaSet", "", costs{"a": "0", "b": "-100", "c": "-200"}},
		"overflow":                    {keys.PolicyOverflow, "", "ReplicaSet", "", costs{"a": "-100", "b": "-100"}},
		"overflow, in order":          {keys.PolicyOverflow, "a,b", "ReplicaSet", "", costs{"a": "-100", "b": "-200", "c": "-300"}},
		"prefer":                      {keys.PolicyPrefer, "", "ReplicaSet", "", costs{"a": "100", "b": "100"}},
		"prefer, in order":            {keys.PolicyPrefer, "a,b", "ReplicaSet", "", costs{"a": "300", "b": "200", "c": "100"}},
		"the user's own":              {keys.PolicyOverflow, "", "ReplicaSet", "7", costs{"a": ""}},
		"others make no use of it":    {keys.PolicyOverflow, "", "StatefulSet", "", costs{"a": ""}},
		"nobody's":                    {keys.PolicyOverflow, "", "", "", costs{"a": ""}},
		"of an older admission, only": {"", "", "ReplicaSet", "", costs{"a": ""}},
	}
	for name, test := range cases {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{keys.Policy: test.policy, keys.ClusterOrder: test.order}}}
		if test.owner != "" {
			pod.OwnerReferences = []metav1.OwnerReference{{Kind: test.owner, Controller: new(true)}}
		}
		if test.own != "" {
			pod.Annotations[corev1.PodDeletionCost] = test.own
		}
		for cluster, want := range test.want {
			if got, wanted := DeletionCost(pod, cluster); got != want && wanted || wanted != (want != "") {
				t.Errorf("%s: %s costs %q, want %q", name, cluster, got, want)
			}
		}
	}
}
