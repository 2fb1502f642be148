// Package serve is what every daemon of Tessera shares on its edge: strict configuration files, signals, the run
// group, listeners with TLS and reload, authentication of callers, health, metrics and logging.
package serve
