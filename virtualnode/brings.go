package virtualnode

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/policies"
	"github.com/tessera-k8s/tessera/virtualnode/services"
)

// What comes along with pods: Services and network policies of their namespaces, what they name, tokens of their accounts.

// addServices makes who looks after Services and network policies.
func (v *virtualNode) addServices() (err error) {
	s := v.server
	member := &services.Member{
		Name: v.name, Flat: v.config.Network == NetworkFlat, LowerName: v.lowerNamespace, Below: v.below,
		Cluster: func() types.UID { return v.health().UID }, Reachable: v.reachable,
	}
	v.services, err = services.New(services.Setup{
		Member: member, Mode: v.config.Services, Target: v.target, Upper: s.services, Hub: s.hub, Lower: v.watch.Client(),
		Namespaces: s.above.Namespaces(), Choice: s.choice(), Changes: s.above.namespaces, Inhabited: v.inhabited, Room: v.spaces.Use,
		Barred: v.barred,
		Absent: s.config.OrphanGrace.Duration, Zone: v.zone, Events: s.events, Log: v.log,
	}, s.identity)
	if err != nil {
		return err
	}
	v.policies, err = policies.New(policies.Setup{
		Member: member, Mode: v.config.NetworkPolicies, Target: v.target, Upper: s.policies, Hub: s.hub, Lower: v.watch.Client(),
		Namespaces: s.above.Namespaces(), Choice: s.choice(), Changes: s.above.namespaces, Inhabited: v.inhabited, Room: v.spaces.Use,
		Barred: v.barred,
		Absent: s.config.OrphanGrace.Duration, Events: s.events, Log: v.log,
	}, s.identity)
	return err
}

// inhabited reports whether pods of an upper namespace are bound to the virtual node that may go below.
func (v *virtualNode) inhabited(namespace string) bool {
	found, _ := v.above.GetIndexer().ByIndex(cache.NamespaceIndex, namespace) // The index exists.
	return slices.ContainsFunc(found, func(object any) bool { return v.pods.Welcome(object.(*corev1.Pod)) })
}

// inhabit notes that a pod of an upper namespace has come, or has gone: what its namespace brings along follows the first and the last.
func (v *virtualNode) inhabit(namespace string, here bool) {
	here = here || v.inhabited(namespace)
	if _, before := v.homes.Load(namespace); before == here {
		return
	}
	if here {
		v.homes.Store(namespace, true)
	} else {
		v.homes.Delete(namespace)
	}
	v.services.LookIn(namespace)
	v.policies.LookIn(namespace)
}

// zone is that of a lower node, "" if it has none.
func (v *virtualNode) zone(name string) string {
	if s := v.snapshot.Load(); s != nil {
		if node := s.Node(name); node != nil {
			return node.Object.Labels[corev1.LabelTopologyZone]
		}
	}
	return ""
}

// bring sees to it that what an upper pod needs is below before it; left is what it has to do without.
func (v *virtualNode) bring(ctx context.Context, upper *corev1.Pod) (left []error, err error) {
	if left, err = v.objects.Bring(ctx, upper); err != nil {
		return left, err
	}
	for _, volume := range v.target().LeftTokens(upper) {
		left = append(left, fmt.Errorf("volume %s asks for a token of ServiceAccount %s: annotation %s says whose is meant",
			volume, upper.Spec.ServiceAccountName, keys.Token))
	}
	if err := v.tokens.Bring(ctx, upper); err != nil {
		return left, err
	}
	return left, v.policies.Bring(ctx, upper)
}
