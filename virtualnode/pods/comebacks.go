package pods

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A controller whose pods end below one generation after the other gets the next generation failed comebackFirst after the one
// before at the earliest, then after twice that, up to comebackLongest. It starts anew once nothing of it ended for twice that.
const (
	comebackFirst   = time.Second
	comebackLongest = 5 * time.Minute
	longEnough      = 5 // times the pause: pods that ran for longer have not come back in vain
)

// comebacks keeps a controller above and somebody below from making and ending pods against each other as fast as they can.
// Pods that end together do not count: a drain, a node that is lost, whatever their number. What counts is that a pod ends
// which was made after another of its controller had ended.
type comebacks struct {
	mu    sync.Mutex
	known map[types.UID]comeback // by controller
}

type comeback struct {
	last  time.Time // when pods of it were last allowed to fail
	pause time.Duration
}

// take returns how long the upper pod of a lower one that has gone is to wait before it fails; 0 is now. Nobody makes another of a
// pod without a controller.
func (c *comebacks) take(upper *corev1.Pod, now time.Time) time.Duration {
	owner := metav1.GetControllerOfNoCopy(upper)
	if owner == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before, ok := c.known[owner.UID]
	switch {
	case !ok || now.Sub(before.last) > 2*comebackLongest:
		c.known[owner.UID] = comeback{last: now, pause: comebackFirst}
		return 0
	case upper.CreationTimestamp.Time.Before(before.last.Truncate(time.Second)): // Creation times are whole seconds.
		return 0 // It was there when the others ended.
	}
	ran := now.Sub(before.last)
	if left := before.pause - ran; left > 0 {
		return left
	}
	next := comeback{last: now, pause: min(2*before.pause, comebackLongest)}
	if ran > longEnough*before.pause {
		next.pause = comebackFirst
	}
	c.known[owner.UID] = next
	return 0
}

// sweep forgets controllers that have been quiet for long.
func (c *comebacks) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for owner, known := range c.known {
		if now.Sub(known.last) > 2*comebackLongest {
			delete(c.known, owner)
		}
	}
}
