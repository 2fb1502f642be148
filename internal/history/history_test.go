package history

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// What happened after the last look is known from the watches: a backup that is younger than that look is noticed, too.
func TestLook(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, second string // "" for no answer
		seen          []string
		want          error
	}{
		"goes on":               {"100", "103", nil, nil},
		"stays":                 {"100", "100", nil, nil},
		"goes back":             {"100", "99", nil, ErrWentBack},
		"a watch was further":   {"100", "103", []string{"", "105", "90"}, ErrWentBack},
		"no watch was":          {"100", "103", []string{"", "100"}, nil},
		"cannot be compared":    {"100", "103", []string{"x"}, nil},
		"of another make":       {"b", "a", nil, nil},
		"the first finds it":    {"", "103", []string{"105"}, ErrWentBack},
		"is longer, so greater": {"99", "100", []string{"98"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, seen := c.first, []string(nil)
			client := fake.NewClientset()
			client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
				if answer == "" {
					return true, nil, errors.New("connection refused")
				}
				return true, &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: answer}}, nil
			})
			p := NewProbe(client, func() []string { return seen })
			if err := p.Look(t.Context()); (err != nil) != (c.first == "") {
				t.Fatal(err)
			}
			answer, seen = c.second, c.seen
			if err := p.Look(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
