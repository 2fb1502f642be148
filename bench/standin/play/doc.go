// Package play does in the stand-in what a lower cluster's scheduler, kubelets and controllers do: it fills the clusters from
// a seed, lets the pods of clients be placed, run and end, renews the status of nodes, and keeps pods coming and going.
package play
