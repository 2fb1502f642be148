// Package through measures what it costs to send pods through virtualnode: how late it is under a steady load, how fast
// it is at saturation beside a program that makes only the writes that any virtual node must make, and what memory and
// processor time it takes. Pods are created bound, as the upper scheduler leaves them, so that nothing else is measured.
package through
