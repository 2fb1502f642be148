// Package policies brings the NetworkPolicies of the upper cluster to lower ones, for the pods that run there: before the first of them,
// and with the addresses of pods in other clusters where the network is flat.
package policies
