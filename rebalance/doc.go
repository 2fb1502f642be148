// Package rebalance takes pods that landed badly off their virtual node, so that they are placed again. A policy says
// which pods those are, Plan holds them to the limits, and the rest of the package does what the plan says: have the
// cluster avoided for the pod's owner, then evict. Plan is pure; in a dry run nothing but the doing is left out.
package rebalance
