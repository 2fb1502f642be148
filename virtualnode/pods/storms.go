package pods

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"
)

// A controller whose pod ends gets its next one ended after stormFirst at the earliest, then after twice that, up to stormLongest.
// It starts anew once nothing of it ended for twice stormLongest.
const (
	stormFirst   = time.Second
	stormLongest = 5 * time.Minute
)

// storms keeps controllers from making replacement after replacement for pods that cannot be.
type storms struct {
	mu      *sync.Mutex
	backoff *flowcontrol.Backoff
}

func newStorms() storms {
	return storms{mu: &sync.Mutex{}, backoff: flowcontrol.NewBackOff(stormFirst, stormLongest)}
}

// take returns how long the pod has to wait before it may be ended; 0 is the permission to end it now, given once.
// Nobody replaces a pod without a controller.
func (s storms) take(pod *corev1.Pod) time.Duration {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now := string(owner.UID), s.backoff.Clock.Now()
	if s.backoff.IsInBackOffSinceUpdate(key, now) {
		return s.backoff.Get(key)
	}
	s.backoff.Next(key, now)
	return 0
}

// sweep forgets controllers that have been quiet for long.
func (s storms) sweep() { s.backoff.GC() }
