package latency

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ms(values ...int) (all []time.Duration) {
	for _, v := range values {
		all = append(all, time.Duration(v)*time.Millisecond)
	}
	return all
}

func TestRound(t *testing.T) {
	t.Parallel()
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	cases := map[string]struct {
		delays, echo []time.Duration
		want         Round
	}{
		"nothing":                {want: Round{}},
		"one":                    {ms(7), ms(1), Round{Count: 1, P50Ms: 7, P99Ms: 7, EchoP50Ms: 1, EchoP99Ms: 1}},
		"the order is no matter": {ms(hundred...), ms(3, 1, 2), Round{Count: 100, P50Ms: 51, P99Ms: 100, EchoP50Ms: 2, EchoP99Ms: 3}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, NewRound(c.delays, c.echo)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// One round on a machine that stalls changes neither the median nor what is judged: the echo of that round stalls, too.
func TestOneBadRoundDoesNotCount(t *testing.T) {
	t.Parallel()
	good := Round{Count: 10, P50Ms: 10, P99Ms: 30, EchoP50Ms: 1, EchoP99Ms: 10}
	bad := Round{Count: 10, P50Ms: 200, P99Ms: 900, EchoP50Ms: 50, EchoP99Ms: 800}
	got := Of([]Round{good, bad, good})
	want := Figure{P50Ms: 10, P99Ms: 30, EchoP99Ms: 10, P99ToEcho: 3, P99BeyondEchoMs: 20, Rounds: []Round{good, bad, good}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(Figure{}, Of(nil)); diff != "" {
		t.Errorf("of no rounds: %s", diff)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for want, of := range map[float64][]float64{0: nil, 2: {3, 1, 2}, 2.5: {4, 1, 2, 3}} {
		if got := Median(of); got != want {
			t.Errorf("median of %v is %v, want %v", of, got, want)
		}
	}
}
