package snapshot

import (
	"slices"
	"strconv"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, count := range []int{0, 1, 2, 3, 1000} {
		var hashes []uint64
		for i := range count {
			hashes = append(hashes, nameHash("ns", strconv.Itoa(i)))
		}
		set := newNames(slices.Concat(hashes, hashes))
		for i, hash := range hashes {
			if !set.has(hash) {
				t.Errorf("of %d names, number %d is missing", count, i)
			}
		}
		for i := range 1000 {
			if hash := nameHash("other", strconv.Itoa(i)); set.has(hash) {
				t.Errorf("of %d names, number %d of another namespace is among them", count, i)
			}
		}
	}
	// Places at the end of the table go on at its beginning.
	if set := newNames([]uint64{7, 15, 23}); !set.has(7) || !set.has(15) || !set.has(23) || set.has(31) {
		t.Errorf("%v", set)
	}
}

// BenchmarkNames makes the set of 100,000 names, as every publication of a cluster of so many pods does. map and sorted are
// what it was chosen over.
func BenchmarkNames(b *testing.B) {
	hashes := make([]uint64, 100_000)
	for i := range hashes {
		hashes[i] = nameHash("ns", strconv.Itoa(i))
	}
	b.Run("names", func(b *testing.B) {
		for b.Loop() {
			newNames(hashes)
		}
	})
	b.Run("map", func(b *testing.B) {
		for b.Loop() {
			set := make(map[uint64]struct{}, len(hashes))
			for _, hash := range hashes {
				set[hash] = struct{}{}
			}
		}
	})
	b.Run("sorted", func(b *testing.B) {
		for b.Loop() {
			slices.Sort(slices.Clone(hashes))
		}
	})
}
