package extender

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/exact"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Bounds of the exact path. It is slow: some milliseconds to build a cluster of 1,000 nodes, and more for each question.
const (
	mostExact       = 2  // lower clusters that are kept built
	enoughExact     = 3  // clusters that have said yes to one pod are enough to choose from
	candidatesAtOne = 64 // nodes that the plugins are asked about at a time, the tightest first
)

// built is a lower cluster in kube-scheduler's own form, with the pods that are on their way there.
type built struct {
	name     string
	cluster  *exact.Cluster
	snapshot *snapshot.Snapshot
	version  uint64 // of the claims
	coming   []snapshot.Coming
}

// decideAll asks exactly where the columns cannot vouch for a pod, and reports whether any verdict has changed. The caller
// holds e.mu.
func (e *Extender) decideAll(deadline time.Time, verdicts []verdict, uid types.UID) (changed bool) {
	enough := enoughExact
	if e.config.FilterAnswer == answerBest {
		enough = 1
	}
	return decideEnough(verdicts, enough,
		func(v *verdict) bool { return e.pool.Undecided(v.Cluster, v.pod) },
		func(v *verdict) snapshot.Verdict {
			started := time.Now()
			defer func() { e.metrics.exact.WithLabelValues(v.Cluster).Observe(time.Since(started).Seconds()) }()
			return e.decide(deadline, v.pod, uid, v.Verdict)
		})
}

// unknown stands for what a cluster would say if there were time to ask it. It never leaves the extender.
const unknown keys.Reason = "unknown"

// fillIn gives clusters that nobody had time to ask the reason that they gave last time: one that depends on how busy the extender is
// would change from attempt to attempt, and each change wakes the pod.
func (e *Extender) fillIn(pod *corev1.Pod, verdicts []verdict) {
	var last *record
	for i := range verdicts {
		v := &verdicts[i]
		if v.Reason != unknown {
			continue
		}
		v.Reason, v.unasked = keys.NotSynced, true
		if last == nil {
			if last = e.lastAnswer(pod); last == nil {
				last = &record{}
			}
		}
		for _, before := range last.verdicts {
			if before.Cluster == v.Cluster && before.Reason != "" {
				v.Reason = before.Reason
			}
		}
	}
}

// lastAnswer is the last answer about a pod, nil if there was none.
func (e *Extender) lastAnswer(pod *corev1.Pod) *record {
	known, ok := e.verdicts.Get(pod.Namespace + "/" + pod.Name)
	if !ok || known.(*record).uid != pod.UID {
		return nil
	}
	return known.(*record)
}

// decideEnough goes through the clusters that the columns let a pod into, the best first, until enough have said yes: the
// others are passed over, as asking costs and their room is better kept.
func decideEnough(verdicts []verdict, enough int, undecided func(*verdict) bool, decide func(*verdict) snapshot.Verdict) (changed bool) {
	yes := 0
	for i := range verdicts {
		v := &verdicts[i]
		if !v.Fits || !undecided(v) {
			continue
		}
		changed = true
		if yes == enough {
			v.Verdict = snapshot.Verdict{Cluster: v.Cluster, Reason: keys.Held}
			continue
		}
		v.Verdict = decide(v)
		if v.Fits {
			yes++
		}
	}
	return changed
}

// decide asks kube-scheduler's own filter plugins about a pod that the columns let into a cluster but cannot vouch for: it
// has claims, odd volumes or devices. The caller holds e.mu.
func (e *Extender) decide(deadline time.Time, pod *snapshot.Pod, uid types.UID, v snapshot.Verdict) snapshot.Verdict {
	refuse := func(reason keys.Reason) snapshot.Verdict {
		return snapshot.Verdict{Cluster: v.Cluster, Reason: reason}
	}
	if pod.Object == nil || !e.clusters[v.Cluster].claims.Known() {
		return refuse(keys.NotSynced)
	}
	switch claims := e.clusters[v.Cluster].claims; {
	case claims.MissesVolume(pod.Object):
		return refuse(keys.Volume)
	case claims.MissesDevice(pod.Object):
		return refuse(keys.Claim)
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if ctx.Err() != nil { // Building takes longer than what is left, whatever that is.
		return refuse(unknown)
	}
	b, err := e.build(ctx, v.Cluster, uid)
	if err != nil && ctx.Err() != nil {
		return refuse(unknown)
	}
	if err != nil {
		e.log.Error("Building the exact view failed", "cluster", v.Cluster, "err", err)
		return refuse(keys.NotSynced)
	}
	asking := pod.Whole().DeepCopy()
	asking.UID = uid
	reason := keys.NotSynced
	for some := range slices.Chunk(e.pool.Candidates(v.Cluster, pod, uid, len(b.snapshot.Nodes)), candidatesAtOne) {
		fits, refused, err := b.cluster.Filter(ctx, asking, some...)
		switch {
		case err != nil && ctx.Err() != nil:
			return refuse(unknown)
		case err != nil:
			e.log.Warn("Asking the scheduler's plugins failed", "cluster", v.Cluster, "pod", asking.Namespace+"/"+asking.Name, "err", err)
			return refuse(keys.NotSynced)
		case len(fits) > 0:
			v.Node = fits[0]
			return v
		case reason == keys.NotSynced:
			reason = refused[some[0]].Reason()
		}
	}
	return refuse(reason)
}

// build returns the cluster with everybody on their way there but the pod of uid. What was built before is used again as
// long as it only has to be added to.
func (e *Extender) build(ctx context.Context, name string, uid types.UID) (*built, error) {
	s, claims, coming := e.pool.Snapshot(name), e.clusters[name].claims, e.pool.Coming(name, uid)
	at := slices.IndexFunc(e.exact, func(b *built) bool { return b.name == name })
	if at >= 0 {
		b := e.exact[at]
		e.exact = slices.Delete(e.exact, at, at+1)
		if b.snapshot != s || b.version != claims.Version() || !startsWith(coming, b.coming) {
			at = -1
		} else {
			e.exact = append(e.exact, b)
		}
	}
	if at < 0 {
		cluster, err := exact.NewCluster(e.objects(name))
		if err != nil {
			return nil, fmt.Errorf("building %s: %w", name, err)
		}
		e.exact = append(e.exact, &built{name: name, cluster: cluster, snapshot: s, version: claims.Version()})
		e.exact = e.exact[max(0, len(e.exact)-mostExact):]
	}
	b := e.exact[len(e.exact)-1]
	for _, c := range coming[len(b.coming):] {
		pod := c.Pod.DeepCopy()
		if c.UID != "" {
			pod.UID = c.UID
		}
		if err := b.cluster.Hold(ctx, pod, c.Node); err != nil {
			e.exact = slices.DeleteFunc(e.exact, func(other *built) bool { return other == b })
			return nil, fmt.Errorf("building %s: %w", name, err)
		}
		b.coming = append(b.coming, c)
	}
	return b, nil
}

func startsWith(all, first []snapshot.Coming) bool {
	return len(first) <= len(all) && slices.EqualFunc(first, all[:len(first)], func(a, b snapshot.Coming) bool {
		return a.UID == b.UID && a.Node == b.Node && a.Pod == b.Pod
	})
}

// objects collects what the plugins look at.
func (e *Extender) objects(name string) exact.Objects {
	state, s := e.clusters[name], e.pool.Snapshot(name)
	nodes, pods := s.Objects()
	objects := exact.Objects{
		Version: s.Version(), Nodes: nodes, Pods: pods, DeviceClasses: state.around.DeviceClasses(),
		Claims: state.claims.PersistentVolumeClaims(), Volumes: state.claims.PersistentVolumes(),
		StorageClasses: state.claims.StorageClasses(), CSINodes: state.claims.CSINodes(), CSIDrivers: state.claims.CSIDrivers(),
		CSIStorageCapacities: state.claims.CSIStorageCapacities(), VolumeAttachments: state.claims.VolumeAttachments(),
		ResourceClaims: state.claims.ResourceClaims(), ResourceSlices: state.claims.ResourceSlices(),
		DeviceTaintRules: state.claims.DeviceTaintRules(),
	}
	for name, labels := range s.Namespaces() {
		namespace := &corev1.Namespace{}
		namespace.Name, namespace.Labels = name, labels
		objects.Namespaces = append(objects.Namespaces, namespace)
	}
	return objects
}
