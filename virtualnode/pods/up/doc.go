// Package up carries what becomes of lower pods up to the upper ones: their status, why one ended against the will of its
// owner, what a lower cluster has against one, and the tolerations of a cluster that is out of reach.
package up
