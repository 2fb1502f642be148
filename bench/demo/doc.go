// Package demo is the fragmentation story on real control planes: the same workload, once with the stock scheduler
// and virtual nodes alone, once with Tessera, and a table of what became of it. It is the README's first command and,
// with assertions on the same two runs, a test.
package demo
