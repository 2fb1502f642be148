// Package lower watches the lower clusters: which there are (Folder), and what each of them holds (Watch), turned
// into immutable snapshots. It only reads from lower clusters.
package lower
