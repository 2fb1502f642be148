package translate

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// neighbours are three namespaces with a pod each in another cluster, at 192.0.2.1 to 3.
func neighbours(flat bool) Neighbours {
	n := Neighbours{Namespaces: map[string]labels.Set{
		"shop": {"kubernetes.io/metadata.name": "shop", "team": "a"}, "db": {"kubernetes.io/metadata.name": "db", "team": "a"},
		"other": {"kubernetes.io/metadata.name": "other", "team": "b"},
	}}
	if flat {
		pods := map[string]string{"shop": "192.0.2.1", "db": "192.0.2.2", "other": "192.0.2.3"}
		n.Remote = func(namespaces []string, selector labels.Selector) (found []netip.Addr) {
			for _, name := range namespaces {
				if selector.Matches(labels.Set{"app": name}) {
					found = append(found, netip.MustParseAddr(pods[name]))
				}
			}
			return found
		}
	}
	return n
}

// text writes peers down.
func text(peers []networkingv1.NetworkPolicyPeer) string {
	var all []string
	for _, p := range peers {
		if p.IPBlock != nil {
			all = append(all, p.IPBlock.CIDR)
			continue
		}
		one := "pods " + metav1.FormatLabelSelector(p.PodSelector)
		if p.NamespaceSelector != nil {
			one += " in " + metav1.FormatLabelSelector(p.NamespaceSelector)
		}
		all = append(all, one)
	}
	return strings.Join(all, "; ")
}

func TestPeersOfPolicies(t *testing.T) {
	t.Parallel()
	match := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	for name, c := range map[string]struct {
		peer           networkingv1.NetworkPolicyPeer
		isolated, flat string
		egress         string // flat, where it differs
		left           string
	}{
		"own namespace": {
			peer:     networkingv1.NetworkPolicyPeer{PodSelector: match("app", "shop")},
			isolated: "pods app=shop", flat: "pods app=shop; 192.0.2.1/32",
		},
		"own namespace, nobody elsewhere": {
			peer:     networkingv1.NetworkPolicyPeer{PodSelector: match("app", "web")},
			isolated: "pods app=web", flat: "pods app=web",
		},
		"another namespace": {
			peer:     networkingv1.NetworkPolicyPeer{PodSelector: match("app", "db"), NamespaceSelector: match("kubernetes.io/metadata.name", "db")},
			isolated: "pods app=db in kubernetes.io/metadata.name in (t-db)", flat: "pods app=db in kubernetes.io/metadata.name in (t-db); 192.0.2.2/32",
		},
		"all pods of namespaces": {
			peer:     networkingv1.NetworkPolicyPeer{NamespaceSelector: match("team", "a")},
			isolated: "pods <none> in kubernetes.io/metadata.name in (t-db,t-shop)",
			flat:     "pods <none> in kubernetes.io/metadata.name in (t-db,t-shop); 192.0.2.1/32; 192.0.2.2/32",
		},
		"all namespaces": {
			peer:     networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: match("app", "other")},
			isolated: "pods app=other in tessera.sh/upper=us", flat: "pods app=other in tessera.sh/upper=us; 192.0.2.3/32",
			egress: "pods app=other in <none>; 192.0.2.3/32",
		},
		"namespaces that are not there": {
			peer: networkingv1.NetworkPolicyPeer{NamespaceSelector: match("team", "c")}, isolated: "-", flat: "-",
		},
		"the DNS": {
			peer:     networkingv1.NetworkPolicyPeer{PodSelector: match("k8s-app", "kube-dns"), NamespaceSelector: match("kubernetes.io/metadata.name", "kube-system")},
			isolated: "-", flat: "-", egress: "pods k8s-app=kube-dns in kubernetes.io/metadata.name in (kube-system)",
		},
		"addresses": {
			peer:     networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "198.51.100.0/24", Except: []string{"198.51.100.1/32"}}},
			isolated: "198.51.100.0/24", flat: "198.51.100.0/24",
		},
		"a label that stays above": {
			peer:     networkingv1.NetworkPolicyPeer{PodSelector: match(keys.Enabled, "true")},
			isolated: "-", flat: "-", left: "the label tessera.sh/enabled stays above",
		},
	} {
		upper := &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"},
			Spec: networkingv1.NetworkPolicySpec{
				Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{c.peer}}},
				Egress:  []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{c.peer}}},
			},
		}
		target := Target{Identity: "us", Rules: Rules{NamespacePrefix: "t-"}}
		for _, flat := range []bool{false, true} {
			want := c.isolated
			if flat {
				want = c.flat
			}
			lower, left := LowerNetworkPolicy(upper, target, neighbours(flat))
			got := "-"
			if len(lower.Spec.Ingress) > 0 {
				got = text(lower.Spec.Ingress[0].From)
			}
			if got != want || PolicyText(left) != c.left {
				t.Errorf("%s, flat %t: from %s, left %q; want %s", name, flat, got, left, want)
			}
			if got = "-"; len(lower.Spec.Egress) > 0 {
				got = text(lower.Spec.Egress[0].To)
			}
			if flat && c.egress != "" {
				want = c.egress
			}
			if (flat || c.egress == "") && got != want {
				t.Errorf("%s, flat %t: to %s, want %s", name, flat, got, want)
			}
		}
	}
}

// What a rule says beside its peers stays; a rule without peers means everybody, one that has lost its peers nobody.
func TestRulesOfPolicies(t *testing.T) {
	t.Parallel()
	port := networkingv1.NetworkPolicyPort{Port: new(intstr.FromString("web"))}
	upper := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{port}}},
			Egress: []networkingv1.NetworkPolicyEgressRule{{
				Ports: []networkingv1.NetworkPolicyPort{port}, To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}},
			}},
		},
	}
	lower, left := LowerNetworkPolicy(upper, Target{Identity: "us"}, neighbours(true))
	want := upper.Spec.DeepCopy()
	want.Egress[0].To[0].PodSelector = nil
	if diff := cmp.Diff(*want, lower.Spec); diff != "" {
		t.Error(diff)
	}
	if want := []string{"a port by name has no number for pods in other clusters"}; !reflect.DeepEqual(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
	many := neighbours(true)
	many.Remote = func([]string, labels.Selector) (all []netip.Addr) {
		for i := range mostBlocks + 1 {
			all = append(all, netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i)}))
		}
		return all
	}
	upper.Spec.Egress[0].Ports = nil
	lower, left = LowerNetworkPolicy(upper, Target{Identity: "us"}, many)
	if !slices.Equal(left, []string{fmt.Sprintf("it speaks of more than %d pods in other clusters", mostBlocks)}) || len(lower.Spec.Egress[0].To) != 1 {
		t.Errorf("left: %q, below %+v", left, lower.Spec.Egress)
	}
}
