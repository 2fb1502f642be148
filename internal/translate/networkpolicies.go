package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// mostBlocks is how many addresses of pods in other clusters a policy may hold: CNIs make a rule for each.
const mostBlocks = 500

// Neighbours are whom a NetworkPolicy may speak of.
type Neighbours struct {
	// Namespaces are the labels of the upper namespaces that have opted in, by name.
	Namespaces map[string]labels.Set
	// Remote gives the addresses of ready pods in other clusters: those of upper namespaces that a selector matches. nil where no other
	// cluster is reached.
	Remote func(namespaces []string, pods labels.Selector) []netip.Addr
}

// LowerNetworkPolicy returns the policy as it is kept in a lower cluster. A peer that is described by labels becomes the pods that it
// means there, and the addresses of those in other clusters. It never lets in, or out to, whom the upper one does not: what cannot mean
// the same is left out, and said in left.
func LowerNetworkPolicy(
	upper *networkingv1.NetworkPolicy, target Target, around Neighbours,
) (lower *networkingv1.NetworkPolicy, left []string) {
	p := &policy{target: target, around: around, namespace: upper.Namespace}
	spec := upper.Spec.DeepCopy()
	lower = &networkingv1.NetworkPolicy{ObjectMeta: objectMeta(upper, target), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: spec.PodSelector, PolicyTypes: spec.PolicyTypes,
	}}
	p.readable(&spec.PodSelector)
	for _, rule := range spec.Ingress {
		if from, everybody := p.peers(rule.From, true, false); len(from) > 0 || everybody {
			lower.Spec.Ingress = append(lower.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{Ports: rule.Ports, From: from})
		}
	}
	for _, rule := range spec.Egress {
		if to, everybody := p.peers(rule.To, false, slices.ContainsFunc(rule.Ports, named)); len(to) > 0 || everybody {
			lower.Spec.Egress = append(lower.Spec.Egress, networkingv1.NetworkPolicyEgressRule{Ports: rule.Ports, To: to})
		}
	}
	return lower, p.left
}

func named(port networkingv1.NetworkPolicyPort) bool {
	return port.Port != nil && port.Port.Type == intstr.String
}

// policy is one that is being translated.
type policy struct {
	target    Target
	around    Neighbours
	namespace string
	blocks    int
	left      []string
}

func (p *policy) leave(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(p.left, text) {
		p.left = append(p.left, text)
	}
}

// readable notes a selector that reads labels which pods do not have below.
func (p *policy) readable(selector *metav1.LabelSelector) bool {
	var read []string
	for key := range selector.MatchLabels {
		read = append(read, key)
	}
	for _, e := range selector.MatchExpressions {
		read = append(read, e.Key)
	}
	for _, key := range read {
		if above(key) {
			p.leave("the label %s stays above", key)
			return false
		}
	}
	return true
}

// peers translates those of a rule. everybody: the rule has none, and means everybody. A rule that loses all of its peers means nobody, and
// must go.
func (p *policy) peers(
	upper []networkingv1.NetworkPolicyPeer, ingress, namedPorts bool,
) (lower []networkingv1.NetworkPolicyPeer, everybody bool) {
	for i := range upper {
		peer := &upper[i]
		if peer.IPBlock != nil {
			lower = append(lower, networkingv1.NetworkPolicyPeer{IPBlock: peer.IPBlock.DeepCopy()})
			continue
		}
		lower = append(lower, p.peer(peer, ingress, namedPorts)...)
	}
	return lower, len(upper) == 0
}

// peer translates one that is described by labels.
func (p *policy) peer(upper *networkingv1.NetworkPolicyPeer, ingress, namedPorts bool) (lower []networkingv1.NetworkPolicyPeer) {
	pods := upper.PodSelector
	if pods == nil {
		pods = &metav1.LabelSelector{}
	}
	if !p.readable(pods) {
		return nil
	}
	names, here := p.namespaces(upper.NamespaceSelector, ingress)
	if upper.NamespaceSelector == nil || here != nil {
		lower = append(lower, networkingv1.NetworkPolicyPeer{PodSelector: upper.PodSelector.DeepCopy(), NamespaceSelector: here})
	}
	if p.around.Remote == nil || len(names) == 0 {
		return lower
	}
	selector, err := metav1.LabelSelectorAsSelector(pods)
	if err != nil {
		p.leave("a selector of pods: %v", err)
		return lower
	}
	remote := p.around.Remote(names, selector)
	switch {
	case len(remote) == 0:
		return lower
	case namedPorts:
		p.leave("a port by name has no number for pods in other clusters")
		return lower
	case p.blocks+len(remote) > mostBlocks:
		p.leave("it speaks of more than %d pods in other clusters", mostBlocks)
		return lower
	}
	p.blocks += len(remote)
	slices.SortFunc(remote, netip.Addr.Compare)
	for _, address := range slices.Compact(remote) {
		block := netip.PrefixFrom(address, address.BitLen()).String()
		lower = append(lower, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: block}})
	}
	return lower
}

// namespaces are the upper ones that a peer means, and the selector of those below, nil where there are none. Below, all that Tessera
// made are meant by a selector that means all, and what is not Tessera's is meant by none, but for traffic that goes out: to all, and
// to kube-system, where the DNS is.
func (p *policy) namespaces(selector *metav1.LabelSelector, ingress bool) (names []string, lower *metav1.LabelSelector) {
	if selector == nil {
		return []string{p.namespace}, nil
	}
	matcher, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		p.leave("a selector of namespaces: %v", err)
		return nil, nil
	}
	var below []string
	for name, set := range p.around.Namespaces {
		if matcher.Matches(set) {
			names, below = append(names, name), append(below, p.target.Rules.LowerNamespace(name))
		}
	}
	if system := (labels.Set{corev1.LabelMetadataName: metav1.NamespaceSystem}); !ingress && matcher.Matches(system) {
		below = append(below, metav1.NamespaceSystem)
	}
	slices.Sort(names)
	slices.Sort(below)
	switch {
	case matcher.Empty() && ingress:
		return names, &metav1.LabelSelector{MatchLabels: map[string]string{keys.Upper: p.target.Identity}}
	case matcher.Empty():
		return names, &metav1.LabelSelector{}
	case len(below) == 0:
		return nil, nil
	default:
		return names, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: slices.Compact(below)},
		}}
	}
}

// PolicyText is what is told of a policy that does not mean the same below.
func PolicyText(left []string) string { return strings.Join(left, "; ") }
