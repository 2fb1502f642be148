package budgets

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Times of the turns.
const (
	// slot is how long one virtual node has its turn.
	slot = 30 * time.Second
	// guard is the end of a slot, in which nobody has it if it goes to another one. It has to be longer than the clocks of
	// two processes differ, plus the time that a write below takes and the news of the last eviction takes up.
	guard = 5 * time.Second
	// settle is how long a virtual node holds back after the first of its pods. It has to be longer than the news of that
	// pod takes to the others.
	settle = 10 * time.Second
)

// turn tells whether self may let pods of a budget go now, and when to look again although nothing has changed (zero:
// there is no such time). of are the virtual nodes that have pods of the budget, as self sees them; since is from when
// on self has been one of them, and has seen that. The processes of the virtual nodes never talk to each other.
//
// Who has a slot is the greatest of a hash over the budget, the slot and the name (rendezvous hashing): a virtual node
// that joins or leaves never changes which of two others comes first. So two of them that see different sets can only
// both believe that they have the slot where one has not heard of the other: of one that has joined just now, which
// settle keeps back, or of one that has left, which has no pods to let go.
func turn(budget types.UID, of []string, self string, since, now time.Time) (mine bool, next time.Time) {
	if !slices.Contains(of, self) {
		return false, time.Time{}
	}
	if settled := since.Add(settle); now.Before(settled) {
		return false, settled
	}
	if len(of) == 1 {
		return true, time.Time{}
	}
	number := now.UnixNano() / int64(slot)
	end := time.Unix(0, (number+1)*int64(slot))
	switch {
	case winner(budget, number, of) != self:
		return false, end
	case winner(budget, number+1, of) == self:
		return true, end
	case now.Before(end.Add(-guard)):
		return true, end.Add(-guard)
	default:
		return false, end
	}
}

// winner is the virtual node that has a slot.
func winner(budget types.UID, number int64, of []string) string {
	weight := func(name string) uint64 {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s", budget, number, name))
		return binary.BigEndian.Uint64(sum[:])
	}
	return slices.MaxFunc(of, func(a, b string) int {
		if weight(a) < weight(b) {
			return -1
		}
		return 1
	})
}
