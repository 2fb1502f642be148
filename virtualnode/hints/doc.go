// Package hints brings the lower node that the extender holds room on to the lower scheduler: Ask asks for it, Mode says
// in which way the cluster takes it, Apply writes it into a pod that is to be created, Give into one that waits behind
// our gate. A hint is never worth a pod: whatever stands in its way, the pod goes without.
package hints
