// Package wire is the extender's HTTP API as it travels: what others send, read and checked, and the JSON that it answers
// with, so that its clients (package ask) and its server use the same types. It is pure, and links neither gin nor
// client-go, so that it can be fuzzed in seconds.
//
// Whatever a Read function returns without an error can be worked with: no nil pod, no name twice or empty, no amount that
// is negative or too large to be summed up. Its errors are for whoever sent the bytes.
package wire
