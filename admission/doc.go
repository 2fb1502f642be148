// Package admission is the mutating webhook of the upper cluster. It marks pods of opted-in namespaces as Tessera's
// and seals their constraints, and it keeps everybody else's pods off virtual nodes. What it decides is pure
// (Mark, KeepOff, KeepOffTemplate); the rest decodes and answers AdmissionReviews.
package admission
