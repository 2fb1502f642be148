// Package node shows one lower cluster as a Node of the upper cluster: Facts say what the Node looks like, a Keeper
// registers it, renews its lease and writes what changes.
package node
