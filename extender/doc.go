// Package extender is the heart of Tessera: a kube-scheduler HTTP extender that knows every lower cluster node by
// node. It filters and prioritizes virtual nodes, holds room for pods on their way, and explains itself under
// /debug. All answers come from memory: nothing on the scheduling path calls a cluster.
//
// A file is a verb or a thing users see: filter.go, prioritize.go, bind.go, debug.go, fragmentation.go, holds.go, avoid.go,
// wake.go. The decisions are internal/snapshot's; decide.go asks internal/exact where they end, entry.go asks internal/entry
// what lower namespaces demand. upper.go and clusters.go feed them.
package extender
