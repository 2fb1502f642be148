package translate

import "cmp"

// PriorityClass returns the name of the lower priority class for a pod of an upper one. The number and the preemption
// policy are always left to the lower API server.
//
// Its admission refuses a number or a policy that differs from those of the class, and without a class from those of the
// cluster's default class, or from 0 and PreemptLowerPriority where there is none (plugin/pkg/admission/priority of
// Kubernetes 1.37). So preemptionPolicy: Never cannot be given to a pod without a class; it can be had by mapping "" to a
// lower class that has it. A pod without a class has priority 0 where there is no default class: it preempts nobody but
// pods that have been given a negative one to make way.
func (r Rules) PriorityClass(upper string) string {
	switch r.Priority {
	case PrioritySame:
		return upper
	case PriorityMap:
		return cmp.Or(r.PriorityClasses[upper], r.PriorityClasses[""])
	default:
		return ""
	}
}
