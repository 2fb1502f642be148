package down

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// change is a kind of change of an upper pod. Each is brought down in a call of its own.
type change string

const (
	changeFields    change = "change"
	changeSize      change = "resize"
	changeEphemeral change = "ephemeral containers"
	changeGates     change = "readiness gates"
)

// reasonChange is the reason of the event for a change that is refused below.
const reasonChange = "LowerRefusedChange"

// refusedAgain is how long a refused change is left alone. The resync, once a minute, tries it again.
const refusedAgain = 50 * time.Second

// refusedChange is a change that the lower cluster refuses.
type refusedChange struct {
	of        string // names what was wanted
	text      string
	since, at time.Time // first and last refused with that text
}

// waits reports whether that very change was refused a moment ago.
func (m *Memory) waits(change change, of string) bool {
	r, ok := m.refused[change]
	return ok && r.of == of && time.Since(r.at) < refusedAgain
}

// answered takes what the lower cluster says to a change. A refusal is told to the owner, once, and is not an error: trying
// again at once would not help, and the rest of the pod goes on. Other errors come back.
func (c Changes) answered(change change, of string, upper *corev1.Pod, memory *Memory, err error) error {
	if err == nil {
		delete(memory.refused, change)
		return nil
	}
	if !refusesChange(err) {
		if apierrors.IsNotFound(err) {
			return nil // The pod has gone: the event of that brings us back.
		}
		return fmt.Errorf("bringing %s down: %w", change, err)
	}
	now := time.Now()
	since := memory.refused[change].since
	if memory.refused[change].text != err.Error() {
		since = now
		c.Events.Eventf(upper, corev1.EventTypeWarning, reasonChange, "Cluster %s refuses the %s: %v", c.Name, change, err)
	}
	memory.refused[change] = refusedChange{of: of, text: err.Error(), since: since, at: now}
	return nil
}

// refusesChange reports whether the lower cluster does not want a change, or does not know that kind of change: an older API
// server has no such subresource.
func refusesChange(err error) bool {
	unknown := apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
	return unknown || pair.Refused(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err)
}
