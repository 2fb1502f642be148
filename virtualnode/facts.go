package virtualnode

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/node"
	"github.com/tessera-k8s/tessera/virtualnode/policies"
	"github.com/tessera-k8s/tessera/virtualnode/services"
)

// healthInterval is how often the health of a lower cluster is looked at.
const healthInterval = time.Second

// publish takes a new snapshot of the lower cluster.
func (v *virtualNode) publish(s *snapshot.Snapshot) {
	v.snapshot.Store(s)
	v.keeper.Touch()
}

// acceptedFor is how long pods that are found missing in a cluster which somebody accepted are believed to be so. It has to be listed
// first.
const acceptedFor = time.Minute

// watchHealth notes when the lower cluster falls silent and when it is back.
func (v *virtualNode) watchHealth(ctx context.Context) {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	var before [2]corev1.NodeCondition
	back, brake, left, ending := false, node.Brake{}, [3]string{}, false
	for {
		if now := v.reachable() && !v.barred(); now != back {
			if back = now; back {
				v.pods.WakeAll()
			}
		}
		now := time.Now() // Before the health is read: if this process is stopped in between, no silence is made of that.
		facts := node.Facts{
			Name: v.name, Health: v.health(), LowerUID: v.lowerUID(), Rules: v.config.rules(), Snapshot: v.part(),
			Holder: v.lease.Taken(), Unheld: v.lease.Unheld(), Double: v.double(),
		}
		for i, c := range []corev1.NodeCondition{facts.Ready(now), facts.Usable(now)} {
			if c.Status != before[i].Status || c.Reason != before[i].Reason {
				before[i] = c
				v.keeper.Touch()
			}
		}
		if life := v.server.tokenOf(v.name); life.Ending(now) != ending {
			ending = !ending
			v.keeper.Touch()
		}
		if now := v.brake(); now != brake {
			brake = now
			v.keeper.Touch()
		}
		if now := v.left(); now != left {
			left = now
			v.keeper.Touch()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (v *virtualNode) reachable() bool {
	now := time.Now()
	return node.Reachable(v.health(), now)
}

// barred reports whether nothing at all may be done in the lower cluster, nor be concluded from what is to be seen there: it is
// elsewhere, or answers, and this process does not hold its lease.
func (v *virtualNode) barred() bool {
	return v.elsewhere() || v.reachable() && !v.lease.Held()
}

// elsewhere reports whether the lower cluster does not accept our credentials, or is another one than the Node stands for, or nobody
// knows yet.
func (v *virtualNode) elsewhere() bool {
	stands := v.stands.Load()
	health := v.health()
	return stands == nil || !health.Identified || health.Unauthorized() ||
		stands.uid != "" && health.UID != "" && health.UID != stands.uid
}

// stands says which cluster a Node stands for.
type stands struct{ uid types.UID }

// claimed takes from the Node as it was found, nil for none, which cluster it stands for.
func (v *virtualNode) claimed(node *corev1.Node) {
	found := stands{}
	if node != nil {
		found.uid = types.UID(node.Annotations[keys.LowerUID])
		found.accept(node)
	}
	if v.stands.CompareAndSwap(nil, &found) && node != nil && v.refusals != nil { // Else what is known already is newer.
		v.refusals.Restore(translate.RefusalsOf(node), time.Now())
	}
}

// accept lets the Node stand for another cluster, if somebody said so.
func (s *stands) accept(node *corev1.Node) {
	if accepted := types.UID(node.Annotations[keys.AcceptUID]); accepted != "" && accepted == types.UID(node.Annotations[keys.FoundUID]) {
		s.uid = accepted
	}
}

// lowerUID is the UID of the cluster that the Node stands for: the first that answers, or another that was accepted since.
func (v *virtualNode) lowerUID() types.UID {
	known := v.stands.Load()
	if known == nil {
		return ""
	}
	next := *known
	health := v.health()
	if next.uid == "" {
		next.uid = health.UID
	}
	if node := v.upperNode(); node != nil && health.UID != "" && health.UID != next.uid {
		next.accept(node)
	}
	if next != *known && v.stands.CompareAndSwap(known, &next) {
		v.log.Info("Virtual node stands for a lower cluster", "uid", next.uid, "before", known.uid)
		if known.uid != "" { // Somebody accepted another cluster, and knows what is not in it.
			v.pods.Believe(acceptedFor)
		}
	}
	return next.uid
}

// standing is the Node as the upper cluster shows it, nil if it shows none; known is false before it was listed.
func (v *virtualNode) standing() (node *corev1.Node, known bool) {
	if v.self == nil || !v.self.HasSynced() {
		return nil, false
	}
	return v.upperNode(), true
}

// health is how the lower cluster answers; it never has where the kubeconfig cannot be used.
func (v *virtualNode) health() lower.Health {
	if v.watch == nil {
		return lower.Health{}
	}
	return v.watch.Health()
}

// part is the newest snapshot of the lower nodes that take part, nil before the first.
func (v *virtualNode) part() *snapshot.Snapshot {
	if whole := v.snapshot.Load(); whole != nil {
		return whole.Select(v.taking)
	}
	return nil
}

// nodeReady reports whether a lower node works by the newest snapshot.
func (v *virtualNode) nodeReady(name string) bool {
	s := v.snapshot.Load()
	if s == nil {
		return true // Nothing is known yet.
	}
	node := s.Node(name)
	return node != nil && node.Ready
}

// nodeUsable reports whether a lower node is there, works and takes pods by the newest snapshot.
func (v *virtualNode) nodeUsable(name string) bool {
	s := v.snapshot.Load()
	if s == nil {
		return true // Nothing is known yet.
	}
	node := s.Node(name)
	return node != nil && node.Usable()
}

// knownVersion reports whether the lower API server is no newer than this program.
func (v *virtualNode) knownVersion() bool {
	s := v.snapshot.Load()
	return s != nil && s.Version().Known()
}

// brake says why orphans are not collected, or missing pods not failed; "" if they are.
func (v *virtualNode) brake() node.Brake {
	return node.Brake{Orphans: v.orphans.Brake(), Missing: v.pods.Missing()}
}

// left says what of Services and policies does not come down; nobody tells of its changes.
func (v *virtualNode) left() [3]string {
	return [3]string{v.services.Forbidden(), v.policies.Forbidden(), v.policies.NotTheSame()}
}

// facts are what the Node is made from at this moment.
func (v *virtualNode) facts() node.Facts {
	f := node.Facts{Name: v.name, Rules: v.config.rules(), Broken: v.broken}
	if v.watch == nil {
		return f
	}
	f.Health, f.LowerUID, f.Snapshot, f.Stands, f.Devices = v.health(), v.lowerUID(), v.part(), v.upperNode(), v.devices.Most()
	if f.Snapshot != nil {
		f.Version = f.Snapshot.Version().String()
	}
	f.Refusals, f.Holder, f.Unheld, f.Double = v.refusals.Refusals(), v.lease.Taken(), v.lease.Unheld(), v.double()
	f.More = append(f.More, node.Credentials(v.server.tokenOf(v.name), time.Now())...)
	f.More = append(f.More, node.Orphans(v.brake()))
	if v.config.Services != services.None {
		f.More = append(f.More, node.Services(node.ServicesBelow{Forbidden: v.services.Forbidden(), Prefix: v.config.NamespacePrefix}))
	}
	if v.config.NetworkPolicies != policies.None {
		f.More = append(f.More, node.Policies(node.PoliciesBelow{Forbidden: v.policies.Forbidden(), NotTheSame: v.policies.NotTheSame()}))
	}
	if overlap := v.overlap.Load(); overlap != nil {
		f.More = append(f.More, node.Flat(*overlap))
	}
	f.Own = v.charges.Sum()
	if v.kubelet != nil {
		if asked, err := v.usage.Trouble(); asked {
			f.More = append(f.More, node.Usage(err))
		}
		f.Address, f.AddressType, f.Port = v.server.kubelets.address.String(), v.server.config.Kubelet.AddressType, v.kubelet.Port()
	}
	return f
}

// lowerNamespace is the name below of an upper namespace.
func (v *virtualNode) lowerNamespace(upper string) string {
	return v.config.rules().LowerNamespace(upper)
}

// target is where pods of this virtual node go: unsealing depends on its labels, also on those a user gave it.
func (v *virtualNode) target() translate.Target {
	target := translate.Target{VirtualNode: v.name, Identity: v.server.identity, Rules: v.config.rules()}
	if upper := v.upperNode(); upper != nil {
		target.Labels = upper.Labels
	} else {
		target.Labels = map[string]string{keys.Cluster: v.name}
	}
	return target
}

// upperNode is the Node as the upper cluster shows it, nil if it does not.
func (v *virtualNode) upperNode() *corev1.Node {
	if object, ok, _ := v.self.GetStore().GetByKey(v.name); ok {
		return object.(*corev1.Node)
	}
	return nil
}

// synced reports whether the upper cluster has been listed.
func (v *virtualNode) synced() bool {
	return v.watch == nil || (v.above.HasSynced() && v.self.HasSynced() && v.server.above.synced())
}

// lowerKey is the function of the index byLower.
func (v *virtualNode) lowerKey(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	return []string{v.lowerNamespace(pod.Namespace) + "/" + pod.Name}, nil
}

// upperOf is the upper pod that has that namespace/name below, nil if there is none.
func (v *virtualNode) upperOf(lower string) *corev1.Pod {
	objects, _ := v.above.GetIndexer().ByIndex(byLower, lower) // The index exists.
	if len(objects) == 0 {
		return nil
	}
	return objects[0].(*corev1.Pod)
}
