package extender

import (
	"slices"
	"time"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// prioritize scores the nodes that are left. Another extender may have taken our best one out since Filter, so
// the best of the list as it is now gets the hold and the top score.
func (e *Extender) prioritize(args *extenderv1.ExtenderArgs) extenderv1.HostPriorityList {
	now := time.Now()
	passed, _, asked := e.sort(nodeNames(args))
	pods := e.compileAll(args.Pod, asked)
	e.mu.Lock()
	defer e.mu.Unlock()
	verdicts := e.judge(now, args.Pod, asked, pods)
	if seal.Overflows(args.Pod) && len(passed) > 0 {
		return realFirst(passed, verdicts)
	}
	hold := e.pool.Hold(args.Pod.UID)
	moved := hold != nil && hold.State == snapshot.Offered && len(verdicts) > 0 && hold.Cluster != verdicts[0].Cluster
	none := hold == nil && args.Pod.UID != "" && !e.firm(args.Pod.UID) // Filter saw a real node, which another extender has taken out.
	if len(verdicts) > 0 && verdicts[0].Fits && (moved || none && seal.Overflows(args.Pod)) {
		e.offer(now, args.Pod, verdicts[0])
		e.touch()
	}
	favour(e.pool.Hold(args.Pod.UID), verdicts)
	list := make(extenderv1.HostPriorityList, 0, len(passed)+len(verdicts))
	for _, name := range passed {
		list = append(list, extenderv1.HostPriority{Host: name})
	}
	for _, v := range verdicts {
		list = append(list, extenderv1.HostPriority{Host: v.node.Name, Score: v.score})
	}
	return list
}

// favour gives the node that room is held behind the top score whatever the verdicts say: they may lack the time for a look at it,
// and without a score of ours the scheduler's own plugins would choose another.
func favour(hold *snapshot.Hold, verdicts []verdict) {
	if hold == nil || !slices.ContainsFunc(verdicts, func(v verdict) bool { return v.Cluster == hold.Cluster }) {
		return
	}
	for i := range verdicts {
		if verdicts[i].Cluster == hold.Cluster {
			verdicts[i].score = extenderv1.MaxExtenderPriority
		} else {
			verdicts[i].score = min(verdicts[i].score, 1)
		}
	}
}

// realFirst gives every real node the top score, among which the scheduler's own plugins choose.
func realFirst(passed []string, verdicts []verdict) extenderv1.HostPriorityList {
	list := make(extenderv1.HostPriorityList, 0, len(passed)+len(verdicts))
	for _, name := range passed {
		list = append(list, extenderv1.HostPriority{Host: name, Score: extenderv1.MaxExtenderPriority})
	}
	for _, v := range verdicts {
		list = append(list, extenderv1.HostPriority{Host: v.node.Name})
	}
	return list
}
