// Package snapshot is the core that decides: pictures of lower clusters, fit, score and holds.
//
// It is pure. Nothing in it knows a clock, a client, a logger or a lock: time is passed in, answers are values,
// and whoever owns a Pool keeps its callers in turn. That is why the extender, the simulation of bench/frag and
// the tests run the very same decisions.
//
// A Snapshot is immutable and says what one lower cluster was seen to hold. A Pool is the newest Snapshot of every
// cluster and the holds on them. Judge asks, Offer asks and holds in one step, Publish and Observe tell it what
// has been seen.
package snapshot
