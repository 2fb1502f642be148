// Package admission asks admission's webhook about pods at a steady rate, beside an echo server that is asked at the same rate at the
// same time: how much processor time a review takes, and how much later than the echo's its answers are.
package admission
