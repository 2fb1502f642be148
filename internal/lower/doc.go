// Package lower watches what each lower cluster holds, and turns it into immutable snapshots. It only reads from lower clusters;
// package registry says which there are.
package lower
