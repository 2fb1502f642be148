package lower

import (
	"testing"

	"github.com/tessera-k8s/tessera/internal/translate"
)

// Two parts of a cluster are apart if their selectors alone say so, and not because no node is in both at the moment.
func TestApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", false},
		{"pool=a", "", false},
		{"pool=a", "pool=b", true},
		{"pool=a", "pool=a", false},
		{"pool=a", "zone=b", false},
		{"pool=a", "pool!=a", true},
		{"pool in (a,b)", "pool notin (a,b,c)", true},
		{"pool in (a,b)", "pool notin (a)", false},
		{"pool in (a,b)", "pool in (b,c)", false},
		{"pool", "!pool", true},
		{"pool=a", "!pool", true},
		{"pool!=a", "!pool", false},
		{"pool!=a", "pool!=b", false},
		{"zone=x,pool=a", "zone=x,pool=b", true},
		{"gen>3", "gen=2", true},
		{"gen>3", "gen=4", false},
	} {
		a, err := PartOf(translate.Rules{Nodes: c.a})
		if err != nil {
			t.Fatal(err)
		}
		b, err := PartOf(translate.Rules{Nodes: c.b})
		if err != nil {
			t.Fatal(err)
		}
		if got := Apart(a, b); got != c.want || Apart(b, a) != got {
			t.Errorf("%q and %q are apart: %t and %t, want %t", c.a, c.b, got, Apart(b, a), c.want)
		}
	}
}
