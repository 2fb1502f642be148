// Package admit says what an API server makes of an object that is created, written to or deleted: defaults, what a write leaves
// alone, and what it refuses. It knows no HTTP and no table.
package admit
