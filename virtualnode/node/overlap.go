package node

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Reasons of the condition tessera.sh/NetworkOverlap.
const (
	reasonOverlap = "AddressesOverlap"
	reasonApart   = "AddressesApart"
)

// Addresses are what one cluster of a flat network uses.
type Addresses struct {
	// Cluster is its name as people know it.
	Cluster string
	// Ranges are the pod ranges of its nodes.
	Ranges []Range
	// Pods are the addresses of pods that live there and have their own.
	Pods []netip.Addr
}

// Range is a pod range and the node that has it. Two virtual nodes may stand for the same lower node.
type Range struct {
	netip.Prefix
	Node types.UID
}

// Overlaps says, for each cluster that has something in common with another, what: pod ranges, or the address of a pod
// that lives in both. One example is enough, the same for the same input. Time: n log n in all that is given.
func Overlaps(clusters []Addresses) map[string]string {
	found := map[string]string{}
	report := func(a, b, what string) {
		found[a] = cmp.Or(found[a], fmt.Sprintf("%s, also of %s", what, b))
		found[b] = cmp.Or(found[b], fmt.Sprintf("%s, also of %s", what, a))
	}
	clusters = slices.SortedFunc(slices.Values(clusters), func(a, b Addresses) int { return cmp.Compare(a.Cluster, b.Cluster) })
	overlappingRanges(clusters, report)
	lives := map[netip.Addr]string{}
	for _, c := range clusters {
		for _, address := range slices.SortedFunc(slices.Values(c.Pods), netip.Addr.Compare) {
			if other, taken := lives[address]; taken && other != c.Cluster {
				report(other, c.Cluster, "address "+address.String())
			}
			lives[address] = c.Cluster
		}
	}
	return found
}

// overlappingRanges goes through all ranges by their first address. Two ranges overlap only if one holds the other, so
// it is enough to look at those that are open: each holds the next.
func overlappingRanges(clusters []Addresses, report func(a, b, what string)) {
	type owned struct {
		Range
		cluster string
	}
	var all, open []owned
	for _, c := range clusters {
		for _, r := range c.Ranges {
			all = append(all, owned{Range{r.Masked(), r.Node}, c.Cluster})
		}
	}
	slices.SortStableFunc(all, func(a, b owned) int { return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits())) })
	for _, next := range all {
		open = slices.DeleteFunc(open, func(o owned) bool { return !o.Overlaps(next.Prefix) })
		for _, o := range open {
			if o.cluster != next.cluster && o.Node != next.Node {
				report(o.cluster, next.cluster, fmt.Sprintf("pod range %s", next.Prefix))
			}
		}
		if !slices.Contains(open, next) {
			open = append(open, next)
		}
	}
}

// Flat is the condition NetworkOverlap of a cluster of a flat network; overlap is what Overlaps says of it, "" if nothing.
func Flat(overlap string) corev1.NodeCondition {
	if overlap == "" {
		return corev1.NodeCondition{Type: keys.NetworkOverlap, Status: corev1.ConditionFalse, Reason: reasonApart,
			Message: "No address of its pods is known to belong to another cluster of the flat network, too"}
	}
	return corev1.NodeCondition{Type: keys.NetworkOverlap, Status: corev1.ConditionTrue, Reason: reasonOverlap,
		Message: "The network is said to be flat (network: flat), and is not: " + overlap +
			"; traffic to such an address may reach a stranger's pod"}
}

// OwnAddresses are the addresses of the pods that have their own and have not ended.
func OwnAddresses(pods []*corev1.Pod) []netip.Addr {
	var own []netip.Addr
	for _, pod := range pods {
		if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			if address, err := netip.ParseAddr(ip.IP); err == nil {
				own = append(own, address.Unmap())
			}
		}
	}
	return own
}

// Ranges are the pod ranges of nodes.
func Ranges(nodes []*corev1.Node) []Range {
	var all []Range
	for _, node := range nodes {
		for _, text := range node.Spec.PodCIDRs {
			if r, err := netip.ParsePrefix(text); err == nil {
				all = append(all, Range{r.Masked(), node.UID})
			}
		}
	}
	return all
}
