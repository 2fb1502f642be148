package extender

import (
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// preempt exists for completeness. kube-scheduler calls it only when its own filters refuse a virtual node, which
// the advertised allocatable prevents, and deletes whatever victims come back: so candidates on virtual nodes are
// dropped, those on real nodes go back unchanged, and no other victim is ever named.
func (e *Extender) preempt(args *extenderv1.ExtenderPreemptionArgs) *extenderv1.ExtenderPreemptionResult {
	kept := map[string]*extenderv1.MetaVictims{}
	for name, victims := range args.NodeNameToMetaVictims {
		if isReal(e.upper.node(name)) {
			kept[name] = victims
		}
	}
	for name, victims := range args.NodeNameToVictims {
		if isReal(e.upper.node(name)) && victims != nil {
			meta := &extenderv1.MetaVictims{NumPDBViolations: victims.NumPDBViolations}
			for _, pod := range victims.Pods {
				if pod == nil {
					continue
				}
				meta.Pods = append(meta.Pods, &extenderv1.MetaPod{UID: string(pod.UID)})
			}
			kept[name] = meta
		}
	}
	return &extenderv1.ExtenderPreemptionResult{NodeNameToMetaVictims: kept}
}
