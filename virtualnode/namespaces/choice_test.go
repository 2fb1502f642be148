package namespaces

import (
	"testing"

	"github.com/tessera-k8s/tessera/internal/keys"
)

func TestChoice(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]struct{ byLabel, everywhere bool }{
		"true": {true, true}, "false": {false, false}, "": {false, true}, "maybe": {false, true},
	} {
		ns := namespace(set{keys.Enabled: says}, nil)
		if got := (Choice{}).Takes(ns); got != want.byLabel {
			t.Errorf("label %q: takes part: %t", says, got)
		}
		if got := (Choice{Everywhere: true}).Takes(ns); got != want.everywhere {
			t.Errorf("label %q, everywhere: takes part: %t", says, got)
		}
	}
	if (Choice{Everywhere: true}).Takes(nil) {
		t.Error("a namespace that is not there takes part")
	}
}
