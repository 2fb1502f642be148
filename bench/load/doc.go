// Package load puts load on real control planes (bench/lab) and counts what becomes of it, by what the API servers and
// the lower schedulers say. The bursts are tests' too: extender's lab tests run them with faults in between.
package load
