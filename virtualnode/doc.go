// Package virtualnode shows each lower cluster as one Node of the upper cluster and lets the pods bound to that Node
// live below: it creates, updates and deletes them there and carries their status up.
//
// One process serves a folder of clusters. Per cluster there are two halves: the node (package node), which says what
// the cluster has and whether it can be reached, and the pods (package pods), one queue of upper pods whose worker
// compares what both API servers hold and takes one step: status goes up (package up), changes go down (package down),
// the node that room is held on goes to the lower scheduler (package hints). Nothing is kept on disk and nothing is
// summed up from events, so the process can be killed at any moment.
package virtualnode
