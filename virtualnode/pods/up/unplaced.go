package up

import (
	"context"
	"regexp"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// Unplaced is what keeps a bound pod from a lower node.
type Unplaced struct {
	Reason  keys.Reason
	Message string
}

// Words that change from one attempt to the next (ids, amounts) are written anew no more often than this: each write wakes whoever
// watches the pod.
const wordsEvery = 5 * time.Minute

// mostWords bounds what a lower cluster may say, in characters.
const mostWords = 1000

// condition is tessera.sh/LowerPlaced of a pod that is kept from a lower node. What it says stays where only its numbers differ.
func (u *Unplaced) condition(before *corev1.PodCondition, now time.Time) corev1.PodCondition {
	c := corev1.PodCondition{
		Type: keys.LowerPlaced, Status: corev1.ConditionFalse, Reason: string(u.Reason), Message: printable(u.Message),
		LastTransitionTime: metav1.NewTime(now), LastProbeTime: metav1.NewTime(now),
	}
	if before == nil || before.Status != corev1.ConditionFalse {
		return c
	}
	c.LastTransitionTime = before.LastTransitionTime
	recent := now.Sub(before.LastProbeTime.Time) < wordsEvery
	if before.Reason == c.Reason && (before.Message == c.Message || recent && alike(before.Message, c.Message)) {
		c.Message, c.LastProbeTime = before.Message, before.LastProbeTime
	}
	return c
}

// printable is a text without what is no text, cut to mostWords.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if runes := []rune(text); len(runes) > mostWords {
		text = string(runes[:mostWords]) + " ..."
	}
	return text
}

var changing = regexp.MustCompile(`[0-9A-Za-z-]*[0-9][0-9A-Za-z.-]*`)

// alike reports whether two texts differ in words with numbers alone.
func alike(a, b string) bool {
	return changing.ReplaceAllString(a, "0") == changing.ReplaceAllString(b, "0")
}

// Unplaced tells the owner of a pod that is not below what keeps it from there: once, as a condition and as an event.
func (r Reports) Unplaced(ctx context.Context, upper *corev1.Pod, why *Unplaced) error {
	pod := *upper
	event := r.setUnplaced(&pod.Status, upper, why)
	err := r.WriteStatus(ctx, upper, &pod)
	if err == nil {
		event()
	}
	return err
}

// setUnplaced puts the condition into a status. event tells of a new reason, to be called once the status is written.
func (r Reports) setUnplaced(status *corev1.PodStatus, upper *corev1.Pod, why *Unplaced) (event func()) {
	if why == nil {
		return func() {}
	}
	before := pair.Condition(upper, keys.LowerPlaced)
	c := why.condition(before, time.Now())
	status.Conditions = pair.SetCondition(status.Conditions, c)
	return func() {
		if before == nil || before.Reason != c.Reason {
			r.Events.Event(upper, corev1.EventTypeWarning, c.Reason, c.Message)
		}
	}
}
