// Package oracle is the pool as it was before its core was made anew, kept to compare with: tests run scripts on both, and every
// answer has to be the same. Nothing but tests uses it, and it goes when the new core has everything.
//
// Two things differ from what it was, as the new one needs a rule where the old one had chance: leftover is summed so that its
// order over the nodes of a cluster does not depend on the pod, and of nodes that lack equally much the roomiest comes closest.
// A third is a rule that has changed: a node with less than nothing free comes last. Of preferences it knows nothing, nor of what
// containers do not say: the scripts that both are compared on state all requests, and their pods draw nobody.
package oracle
