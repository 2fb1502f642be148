// Package seal puts a pod's constraints aside and brings them back: an upper pod speaks of lower nodes, of which kube-scheduler
// above knows nothing. Pure: no client, no clock.
//
// What a pod demands and prefers of nodes (Constraints) is written whole into the annotation tessera.sh/sealed; what stays in its spec
// is what speaks of virtual nodes, or under other policies than `only` of real ones too. Once a virtual node is chosen, Below says what
// of it lower nodes have to meet, and Across what all clusters together do.
package seal
