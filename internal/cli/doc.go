// Package cli is what people call: status, explain and whatif ask a running extender and print its answers as
// tables, or as JSON for programs. It imports none of the parts: HTTP is the seam.
package cli
