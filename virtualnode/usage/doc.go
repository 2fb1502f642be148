// Package usage says what the pods of a virtual node use, as a kubelet does: by the metrics API of the lower cluster alone, which gives
// rates, from which counters are integrated. Nothing below is asked for the nodes there, since the right to ask a node's kubelet is the
// right to run anything on it.
package usage
