package demo

import "testing"

func TestVerdict(t *testing.T) {
	cases := map[string]struct {
		tessera Result
		good    bool
	}{
		"all run":                     {Result{Asked: 3, Running: 3}, true},
		"one hangs below":             {Result{Asked: 3, Running: 2, StuckBelow: 1}, false},
		"one was refused with room":   {Result{Asked: 3, Running: 2, RefusedWithRoom: 1}, false},
		"one was never created below": {Result{Asked: 3, Running: 2}, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if err := (Report{Tessera: test.tessera}).verdict(); (err == nil) != test.good {
				t.Errorf("verdict is %v", err)
			}
		})
	}
}
