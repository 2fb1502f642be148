// Package decisions measures what the extender takes to decide at a size: how long a question takes beside an echo of the same bytes,
// what a question costs in processor time, how soon what is written below shows in an answer. The lower clusters are played by
// bench/standin; registry, watches, decoding and holds are the extender's own, a process beside this one.
package decisions
