// Package latency is how loads report delays. The machines that loads run on wobble by 40 % within minutes, so a percentile of
// one run says little. Every load therefore measures in rounds and takes the median over them, and in each round an echo
// server beside it, which does nothing but answer: what the echo suffers is the machine's doing. Absolute figures are printed;
// what is judged is a ratio to the echo's, or a difference from it.
package latency
