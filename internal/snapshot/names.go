package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// nameHash stands for the namespace and name of a pod in 8 bytes. Two names with the same hash are no danger: one of their
// pods is refused in one cluster as long as the other exists. Among 100,000 pods that befalls one question in 10^14, and
// nobody can bring it about for a name that is not theirs, as the hash is cut from a cryptographic one.
func nameHash(namespace, name string) uint64 {
	sum := sha256.Sum256([]byte(namespace + "/" + name))
	return max(1, binary.LittleEndian.Uint64(sum[:]))
}

// through is a name of a pod of ours that came through a virtual node.
func through(name uint64, virtualNode string) uint64 {
	hash := fnv.New64a()
	hash.Write([]byte(virtualNode)) // It takes everything.
	return max(1, name^hash.Sum64())
}

// names are the hashes that say of a pod that its name is taken: as long as it exists, but for one of ours that is about to go, as
// whoever is to come after it waits for that.
func (l *LowerPod) names() []uint64 {
	switch {
	case l.UpperUID == "":
		return []uint64{l.name}
	case l.terminating:
		return nil
	default:
		return []uint64{l.name, through(l.name, l.labels[keys.VirtualNode])}
	}
}

// openToAny is the value of the label keys.OpenTo that lets the pods of every upper cluster in.
const openToAny = "any"

// Conflicts reports whether the pod cannot be created in the cluster because its name or its namespace belongs to somebody
// else there. uid is the upper pod's; without one the name counts as free, as it is not this pod that will be created.
func (p *Pool) Conflicts(name string, pod *Pod, uid types.UID) bool {
	c := p.cells[name]
	identity := pod.labels[keys.Upper]
	if c == nil || identity == "" { // Not translated, as in a simulation: it is nobody's.
		return false
	}
	return c.closed(pod, identity) || uid != "" && c.nameTaken(pod)
}

// nameTaken: a pod of this name is there, and it is neither one of ours that is about to go nor one that came through the
// same virtual node. Of that name only one pod at a time is above, so that one stands for this pod, or for an earlier one:
// virtualnode waits for its end, or gives it to this pod if the upper cluster was built anew.
func (c *cell) nameTaken(pod *Pod) bool {
	_, taken := c.names[pod.name]
	_, ours := c.names[through(pod.name, pod.Get(keys.VirtualNode))]
	return taken && !ours
}

// closed: the namespace is there, is not ours, and neither its owner nor our configuration opens it to us. Where nobody may
// look at namespaces, none is known and all are open.
func (c *cell) closed(pod *Pod, identity string) bool {
	labels, exists := c.Namespaces[pod.namespace]
	if !exists || labels[keys.Upper] == identity {
		return false
	}
	if to := labels[keys.OpenTo]; to == identity || to == openToAny {
		return false
	}
	return !slices.Contains(pod.OpenNamespaces, pod.namespace) && !slices.Contains(pod.OpenNamespaces, "*")
}
