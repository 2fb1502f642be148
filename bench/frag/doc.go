// Package frag simulates an upper cluster over fragmented lower ones, in virtual time, and compares ways to choose the
// lower cluster of a pod. What Tessera would do is not modelled: the policies run internal/snapshot, the code that the
// extender runs. What is modelled is the world around it: a lower scheduler that spreads (LeastAllocated), the delay
// between a bind above and the pod below, watches that lag, pods that end.
//
// The workload is synthetic, drawn from the published histograms of the openb trace (Weng et al., ATC'23), or, with
// --trace, read from that trace's files. GPUs are counted in thousandths of one, so that a shared GPU is an ordinary
// resource of the node; that a share has to come from one card is not modelled.
package frag
