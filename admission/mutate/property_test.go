package mutate

import (
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestSealingKeepsWhatRealNodesSay asks kube-scheduler's own matcher about random pods and nodes (rule 12 of the
// design): keeping a pod off virtual nodes changes nothing for real ones, and no toleration is ever lost.
func TestSealingKeepsWhatRealNodesSay(t *testing.T) {
	const rounds = 20_000
	random := rand.New(rand.NewPCG(1, 2))
	matched := 0
	for range rounds {
		p, node, virtualNode := randomPod(random), randomNode(random), randomNode(random)
		virtualNode.Labels[keys.Cluster] = "a"
		kept := KeepOff(p)
		before := fits(t, p, node)
		if after := fits(t, kept, node); after != before {
			t.Fatalf("a real node said %v and says %v after KeepOff: %v", before, after, p.Spec)
		}
		if mayTolerate(p.Spec.Tolerations) && fits(t, kept, virtualNode) {
			t.Fatalf("a virtual node takes a pod that is not Tessera's: %v", kept.Spec)
		}
		marked := mustMark(t, p)
		if fits(t, marked, node) {
			t.Fatalf("a real node takes a pod of policy only: %v", marked.Spec)
		}
		for _, changed := range []*corev1.Pod{kept, marked} {
			if have := changed.Spec.Tolerations; !slices.Equal(have[:min(len(have), len(p.Spec.Tolerations))], p.Spec.Tolerations) {
				t.Fatalf("tolerations %v became %v", p.Spec.Tolerations, have)
			}
		}
		if before {
			matched++
		}
	}
	if matched < rounds/20 || matched > rounds-rounds/20 {
		t.Errorf("%d of %d real nodes matched: the generator is too one-sided to show anything", matched, rounds)
	}
}

func fits(t *testing.T, p *corev1.Pod, node *corev1.Node) bool {
	t.Helper()
	ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(node)
	return ok && err == nil // The plugin treats an expression that cannot be parsed as no match.
}

var (
	someKeys   = []string{"disk", "arch", "zone"}
	someValues = []string{"1", "2", "3"}
)

func pick[T any](random *rand.Rand, from ...T) T { return from[random.IntN(len(from))] }

func randomNode(random *rand.Rand) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: pick(random, "n1", "n2"), Labels: map[string]string{}}}
	for _, key := range someKeys {
		if random.IntN(3) > 0 {
			node.Labels[key] = pick(random, someValues...)
		}
	}
	return node
}

func randomPod(random *rand.Rand) *corev1.Pod {
	p := pod()
	if random.IntN(4) == 0 {
		selecting(pick(random, someKeys...), pick(random, someValues...))(p)
	}
	if random.IntN(3) > 0 {
		terms := make([]term, 1+random.IntN(3))
		for i := range terms {
			terms[i] = randomTerm(random)
		}
		requiring(terms...)(p)
	}
	for range random.IntN(3) {
		tolerating(pick(random, everything, toleration, corev1.Toleration{Key: "gpu", Operator: "Exists"},
			corev1.Toleration{Operator: "Exists", Effect: "NoSchedule"}, corev1.Toleration{Key: keys.VirtualTaint, Value: "a"}))(p)
	}
	return p
}

func randomTerm(random *rand.Rand) (t term) {
	for range random.IntN(3) {
		t.MatchExpressions = append(t.MatchExpressions, pick(random,
			expr(pick(random, someKeys...), "In", pick(random, someValues...), "9"),
			expr(pick(random, someKeys...), "NotIn", pick(random, someValues...)),
			expr(pick(random, someKeys...), "Exists"),
			expr(pick(random, someKeys...), "DoesNotExist"),
			expr(pick(random, someKeys...), "Gt", "1"),
		))
	}
	if random.IntN(6) == 0 {
		t.MatchFields = []requirement{expr("metadata.name", "In", "n1")}
	}
	return t
}
