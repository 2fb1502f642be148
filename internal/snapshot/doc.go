// Package snapshot is the core that decides: pictures of lower clusters, fit, score and holds.
//
// It is pure. Nothing in it knows a clock, a client, a logger or a lock: time is passed in, answers are values,
// and whoever owns a Pool keeps its callers in turn. That is why the extender, the simulation of bench/frag and
// the tests run the very same decisions.
//
// A Pool has a cell for every lower cluster, and the holds on them. Rows hear what watches tell of a cluster, Apply takes what has
// changed of them into its cell, Observe tells of upper pods. Judge asks, Offer holds. A Snapshot is an immutable picture of one
// cluster, for those who want to see all of it.
package snapshot
