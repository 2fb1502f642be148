// Package wire decodes what others send to the extender: the bodies of the scheduler's verbs, of /v1 and of /debug, and the
// entries of the avoid list. It is pure, and links neither gin nor client-go, so that it can be fuzzed in seconds.
//
// Whatever it returns without an error can be worked with: no nil pod, no name twice or empty, no amount that is negative
// or too large to be summed up. Its errors are for whoever sent the bytes.
package wire
