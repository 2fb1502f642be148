package oracle

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

// names is a set of hashes, made anew for every snapshot: a table with open addressing, at most half full, that takes a
// hash at the place that its low bits name or at the next free one. 0 is a free place.
type names []uint64

func newNames(hashes []uint64) names {
	size := 2
	for size < 2*len(hashes) {
		size *= 2
	}
	n := make(names, size)
	for _, hash := range hashes {
		n[n.place(hash)] = hash
	}
	return n
}

// place is where a hash is, or would be.
func (n names) place(hash uint64) int {
	at := int(hash & uint64(len(n)-1))
	for n[at] != 0 && n[at] != hash {
		at = (at + 1) & (len(n) - 1)
	}
	return at
}

func (n names) has(hash uint64) bool { return n[n.place(hash)] == hash }

// openToAny is the value of the label keys.OpenTo that lets the pods of every upper cluster in.
const openToAny = "any"

// Conflicts reports whether the pod cannot be created in the cluster because its name or its namespace belongs to somebody
// else there. uid is the upper pod's; without one the name counts as free, as it is not this pod that will be created.
func (p *Pool) Conflicts(name string, pod *Pod, uid types.UID) bool {
	c := p.clusters[name]
	identity := pod.labels[keys.Upper]
	if c == nil || identity == "" { // Not translated, as in a simulation: it is nobody's.
		return false
	}
	return c.snapshot.closed(pod, identity) || uid != "" && c.snapshot.nameTaken(pod)
}

// nameTaken: a pod of this name is there, and it is neither one of ours that is about to go nor one that came through the
// same virtual node. Of that name only one pod at a time is above, so that one stands for this pod, or for an earlier one:
// virtualnode waits for its end, or gives it to this pod if the upper cluster was built anew.
func (s *Snapshot) nameTaken(pod *Pod) bool {
	return s.names.has(pod.name) && !s.through.has(through(pod.name, pod.labels[keys.VirtualNode]))
}

// closed: the namespace is there, is not ours, and neither its owner nor our configuration opens it to us. Where nobody may
// look at namespaces, none is known and all are open.
func (s *Snapshot) closed(pod *Pod, identity string) bool {
	labels, exists := s.namespaces[pod.namespace]
	if !exists || labels[keys.Upper] == identity {
		return false
	}
	if to := labels[keys.OpenTo]; to == identity || to == openToAny {
		return false
	}
	return !slices.Contains(pod.OpenNamespaces, pod.namespace) && !slices.Contains(pod.OpenNamespaces, "*")
}
