package tombstone

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/cache"
)

func TestUnwrap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		object any
		last   any
		seen   bool
	}{
		"an object":                       {"a", "a", true},
		"a tombstone":                     {cache.DeletedFinalStateUnknown{Key: "k", Obj: "a"}, "a", false},
		"a tombstone of what nobody knew": {cache.DeletedFinalStateUnknown{Key: "k"}, nil, false},
	} {
		if last, seen := Unwrap(c.object); last != c.last || seen != c.seen {
			t.Errorf("%s: %v, seen %t", name, last, seen)
		}
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	var looked []string
	handler := Handler(func(text string) { looked = append(looked, text) })
	handler.OnAdd("added", true)
	handler.OnUpdate("before", "after")
	handler.OnDelete("deleted")
	handler.OnDelete(cache.DeletedFinalStateUnknown{Obj: "missed"})
	handler.OnDelete(cache.DeletedFinalStateUnknown{})
	handler.OnAdd(7, false)
	if diff := cmp.Diff([]string{"added", "after", "deleted", "missed"}, looked); diff != "" {
		t.Error(diff)
	}
}
