package exact_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shrink makes a case small: it takes away whatever can be left out, from whole lists down to single fields, as long as
// fails still says that it fails, and returns the rest. The case goes through JSON for that, so that every field of
// every object is reached by its name. A case that does not fail (any more, after JSON) comes back as it is.
func shrink[T any](failing T, fails func(T) bool) T {
	var tree any
	if !through(failing, &tree) {
		return failing
	}
	s := &shrinker{}
	s.fails = func() bool {
		var candidate T
		return through(tree, &candidate) && fails(candidate)
	}
	if !s.fails() {
		return failing
	}
	for s.progress = true; s.progress; {
		s.progress = false
		s.visit(tree, func(value any) { tree = value })
	}
	var small T
	through(tree, &small)
	return small
}

// through copies by way of JSON. What does not fit the other type is not a case.
func through(from, to any) bool {
	text, err := json.Marshal(from)
	return err == nil && json.Unmarshal(text, to) == nil
}

type shrinker struct {
	fails    func() bool // the tree as it is now
	progress bool
}

// visit makes a value of the tree smaller; set puts another value in its place.
func (s *shrinker) visit(value any, set func(any)) {
	switch value := value.(type) {
	case []any:
		value = s.thinOut(value, set)
		for i := range value {
			s.visit(value[i], func(v any) { value[i] = v })
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			old := value[key]
			if delete(value, key); s.fails() {
				s.progress = true
				continue
			}
			value[key] = old
			s.visit(old, func(v any) { value[key] = v })
		}
	}
}

// thinOut leaves elements out of a list: half of them at once, then a quarter, down to one at a time.
func (s *shrinker) thinOut(list []any, set func(any)) []any {
	for size := max(1, len(list)/2); size > 0; size /= 2 {
		for end := len(list); end > 0; end -= size {
			shorter := slices.Delete(slices.Clone(list), max(0, end-size), end)
			if set(shorter); s.fails() {
				s.progress = true
				list = shorter
			} else {
				set(list)
			}
		}
	}
	return list
}

// The synthetic fault: somebody who is over 40 likes tea. Everything else is noise.
func TestShrinkKeepsWhatTheFailureNeeds(t *testing.T) {
	t.Parallel()
	type person struct {
		Name  string            `json:"name"`
		Age   int               `json:"age"`
		Likes []string          `json:"likes"`
		Tags  map[string]string `json:"tags"`
	}
	type crowd struct {
		People []person `json:"people"`
		City   *string  `json:"city"`
	}
	calls := 0
	fails := func(c crowd) bool {
		calls++
		return slices.ContainsFunc(c.People, func(p person) bool { return p.Age > 40 && slices.Contains(p.Likes, "tea") })
	}
	noise := crowd{City: new("Ravenna")}
	for i := range 30 {
		noise.People = append(noise.People, person{Name: "p", Age: i, Likes: []string{"tea", "milk"}, Tags: map[string]string{"a": "b"}})
	}
	failing := crowd{City: noise.City, People: slices.Concat(noise.People, []person{{"q", 41, []string{"wine", "tea", "milk"}, map[string]string{"c": "d"}}}, noise.People)}
	want := crowd{People: []person{{Age: 41, Likes: []string{"tea"}}}}
	if diff := cmp.Diff(want, shrink(failing, fails)); diff != "" {
		t.Errorf("not the smallest case (-want +got):\n%s", diff)
	}
	if calls > 100 {
		t.Errorf("asked %d times: halving lists should need fewer", calls)
	}
	if diff := cmp.Diff(noise, shrink(noise, fails)); diff != "" {
		t.Errorf("a case that does not fail was changed (-want +got):\n%s", diff)
	}
}
