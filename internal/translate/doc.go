// Package translate says how a pod looks on the other side: Seal puts constraints that speak of lower nodes
// aside, LowerPod is the pod as it is created in the lower cluster, UpperStatus is what the upper cluster is told
// of it. Pure functions: no clock, no client, no logger.
package translate
