package hints

import (
	"encoding/json"
	"sync"
	"time"
)

// Mode is how the lower scheduler is told on which node room is held for a pod.
type Mode string

// The modes.
const (
	// Nominated creates the pod behind a gate, writes the node into status.nominatedNodeName and takes the gate
	// off. The lower scheduler tries that node first, whatever the pod's preferences say, and keeps the room for it.
	Nominated Mode = "nominated"
	// Preferred creates the pod with a preferred node affinity. It is one voice among the pod's own preferences
	// and the lower scheduler's.
	Preferred Mode = "preferred"
	// Required creates the pod with a required node affinity. If the room is lost the pod stays pending.
	Required Mode = "required"
	// Off asks the extender nothing and tells the lower scheduler nothing.
	Off Mode = "off"
)

// UnmarshalJSON takes any scalar, so that Validate can name the key of a bad one. YAML reads the word off without
// quotes as false; it means Off all the same.
func (m *Mode) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		text = string(data)
	}
	if text == "false" {
		text = string(Off)
	}
	*m = Mode(text)
	return nil
}

// nominateAgain is how long a cluster that let no status be patched is spared further attempts.
const nominateAgain = 10 * time.Minute

// modes says how the pods of each cluster are hinted: as configured, but preferred in place of nominated for a
// while where patching the status of pods was refused.
type modes struct {
	configured func(cluster string) Mode

	mu    sync.Mutex
	retry map[string]time.Time // clusters that refused, and when nominated is tried there again
}

// of returns the mode in force for a cluster.
func (m *modes) of(cluster string, now time.Time) Mode {
	mode := m.configured(cluster)
	if mode != Nominated {
		return mode
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Before(m.retry[cluster]) {
		return Preferred
	}
	return mode
}

// statusRefused notes that a cluster let no status be patched. news: it did before, as far as is known.
func (m *modes) statusRefused(cluster string, now time.Time) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.retry[cluster]
	m.retry[cluster] = now.Add(nominateAgain)
	return !known
}

// statusTaken notes that a cluster let a status be patched. news: it did not before.
func (m *modes) statusTaken(cluster string) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, news = m.retry[cluster]
	delete(m.retry, cluster)
	return news
}
