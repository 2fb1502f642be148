package down

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// Changes brings down what changes of the pods of one virtual node. It keeps nothing itself.
type Changes struct {
	// Name is that of the virtual node.
	Name string
	// Target is the virtual node as it is labelled now.
	Target func() translate.Target
	Lower  corev1client.CoreV1Interface
	Events record.EventRecorder
}

// Memory is what is to be remembered of one pod between its changes. Losing it costs calls.
type Memory struct {
	// sent is the upper pod as it was last brought down, nil before; noted is the note that the lower pod had then.
	sent  *corev1.Pod
	noted string
	// refused is what the lower cluster said against changes.
	refused map[change]refusedChange
}

// NewMemory remembers nothing.
func NewMemory() Memory { return Memory{refused: map[change]refusedChange{}} }

// Created notes that the lower pod was made from that upper one.
func (m *Memory) Created(upper, lower *corev1.Pod) {
	m.sent, m.noted = upper, lower.Annotations[keys.BroughtDown]
}

// RefusedSize is what the lower cluster says against the newest size, and since when; "" where it has it or will.
func (m *Memory) RefusedSize() (text string, since time.Time) {
	return m.refused[changeSize].text, m.refused[changeSize].since
}
