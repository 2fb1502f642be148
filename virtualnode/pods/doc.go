// Package pods lets the pods bound to one virtual node live in its lower cluster: one queue of upper pods whose worker
// compares what both API servers hold and takes one step. Nothing is kept on disk and nothing is summed up from events.
//
// Here it is decided what the step is, and pods are created, ended, replaced, refused and adopted. What goes up of a pod
// that is on both sides is in package up, what comes down in package down, its hint in package hints.
package pods
