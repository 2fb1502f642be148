package extender

import (
	"strings"
	"testing"
)

// The scheduler writes these texts into the pod's condition, and a changed condition wakes the pod: a number that
// moves with the cluster would make a loop of it.
func TestReasonTextsNameNoNumbers(t *testing.T) {
	t.Parallel()
	for reason, words := range texts {
		if words == "" || strings.ContainsAny(text(reason), "0123456789") {
			t.Errorf("%q is not a text that stays the same between two attempts", text(reason))
		}
	}
}
