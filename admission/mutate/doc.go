// Package mutate is what the webhooks of admission decide, without the server around it: Mark, KeepOff and
// KeepOffTemplate on typed objects, Review on an encoded AdmissionReview. Pure functions, no I/O and few imports, so
// that the fuzzer compiles it in a moment.
package mutate
