package virtualnode

import (
	"time"

	"github.com/tessera-k8s/tessera/internal/lower"
)

// double is the virtual node of this process that stands for nodes of the same lower cluster and was there first, "" if there is
// none. Two names for one cluster are fine where their node selectors exclude each other.
func (v *virtualNode) double() string {
	uid, since := v.health().UID, v.since()
	if uid == "" {
		return ""
	}
	v.server.mu.Lock()
	defer v.server.mu.Unlock()
	first := ""
	for name, other := range v.server.nodes {
		stands := other.stands.Load()
		if other == v || stands == nil || stands.uid != uid || lower.Apart(v.taking, other.taking) {
			continue
		}
		before := other.since()
		if (before.Before(since) || before.Equal(since) && name < v.name) && (first == "" || name < first) {
			first = name
		}
	}
	return first
}

// since is when the Node was made; the end of time, if it has not been yet.
func (v *virtualNode) since() time.Time {
	if node := v.upperNode(); node != nil {
		return node.CreationTimestamp.Time
	}
	return time.Unix(1<<40, 0)
}
