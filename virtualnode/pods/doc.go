// Package pods lets the pods bound to one virtual node live in its lower cluster: one queue of upper pods whose worker
// compares what both API servers hold and takes one step. Nothing is kept on disk and nothing is summed up from events.
package pods
