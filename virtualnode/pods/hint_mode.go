package pods

import (
	"encoding/json"
	"sync"
	"time"
)

// HintMode is how the lower scheduler is told on which node room is held for a pod.
type HintMode string

// The modes.
const (
	// HintNominated creates the pod behind a gate, writes the node into status.nominatedNodeName and takes the gate
	// off. The lower scheduler tries that node first, whatever the pod's preferences say, and keeps the room for it.
	HintNominated HintMode = "nominated"
	// HintPreferred creates the pod with a preferred node affinity. It is one voice among the pod's own preferences
	// and the lower scheduler's.
	HintPreferred HintMode = "preferred"
	// HintRequired creates the pod with a required node affinity. If the room is lost the pod stays pending.
	HintRequired HintMode = "required"
	// HintOff asks the extender nothing and tells the lower scheduler nothing.
	HintOff HintMode = "off"
)

// UnmarshalJSON takes any scalar, so that Validate can name the key of a bad one. YAML reads the word off without
// quotes as false; it means HintOff all the same.
func (m *HintMode) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		text = string(data)
	}
	if text == "false" {
		text = string(HintOff)
	}
	*m = HintMode(text)
	return nil
}

// nominateAgain is how long a cluster that let no status be patched is spared further attempts.
const nominateAgain = 10 * time.Minute

// modes says how the pods of each cluster are hinted: as configured, but preferred in place of nominated for a
// while where patching the status of pods was refused.
type modes struct {
	configured func(cluster string) HintMode

	mu    sync.Mutex
	retry map[string]time.Time // clusters that refused, and when nominated is tried there again
}

// of returns the mode in force for a cluster.
func (m *modes) of(cluster string, now time.Time) HintMode {
	mode := m.configured(cluster)
	if mode != HintNominated {
		return mode
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Before(m.retry[cluster]) {
		return HintPreferred
	}
	return mode
}

// refused notes that a cluster let no status be patched. news: it did before, as far as is known.
func (m *modes) refused(cluster string, now time.Time) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.retry[cluster]
	m.retry[cluster] = now.Add(nominateAgain)
	return !known
}

// taken notes that a cluster let a status be patched. news: it did not before.
func (m *modes) taken(cluster string) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, news = m.retry[cluster]
	delete(m.retry, cluster)
	return news
}
