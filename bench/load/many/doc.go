// Package many measures the product against many lower clusters, which the stand-in (bench/standin) plays in a process of its
// own.
package many
