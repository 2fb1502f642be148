// Package streams measures what kubectl logs, cp and exec cost by way of a virtual node. There are three ways to one pod on a real
// node, each taken in every round: straight to the lower API server; from the upper one through a plain relay, which is a
// httputil.ReverseProxy that asks nobody and looks nothing up; and from the upper one through the kubelet API of virtualnode. What
// the second way costs is the price of two API servers in a row, so the third is judged by the second, round by round.
package streams
