package pods

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Whatever ends together may fail together; what comes back and ends again waits longer each time.
func TestComebacks(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	c := comebacks{known: map[types.UID]comeback{}}
	take := func(owner string, made, now time.Duration) time.Duration {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(start.Add(made))}}
		if owner != "" {
			pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", UID: types.UID(owner), Controller: new(true)}}
		}
		return c.take(pod, start.Add(now))
	}
	for _, step := range []struct {
		what            string
		owner           string
		made, now, want time.Duration
	}{
		{"the first", "web", 0, 10 * time.Second, 0},
		{"its brothers, at once", "web", 5 * time.Second, 11 * time.Second, 0},
		{"of no controller", "", 10 * time.Second, 11 * time.Second, 0},
		{"of another controller", "db", 10 * time.Second, 10500 * time.Millisecond, 0},
		{"the next one, too soon", "web", 10500 * time.Millisecond, 10600 * time.Millisecond, 400 * time.Millisecond},
		{"the next one", "web", 11 * time.Second, 12 * time.Second, 0},
		{"the one after", "web", 13 * time.Second, 13 * time.Second, time.Second},
		{"its brothers wait as long", "web", 13 * time.Second, 13500 * time.Millisecond, 500 * time.Millisecond},
		{"and then go with it", "web", 13 * time.Second, 14 * time.Second, 0},
		{"together", "web", 13 * time.Second, 14 * time.Second, 0},
		{"a third time", "web", 15 * time.Second, 15 * time.Second, 3 * time.Second},
		{"one that ran for a while", "web", 15 * time.Second, time.Minute, 0},
		{"and its next", "web", time.Minute + time.Second, time.Minute + time.Second, 0},
		{"one that ran for long", "web", 62 * time.Second, 20 * time.Minute, 0},
		{"and its next", "web", 20*time.Minute + time.Second, 20*time.Minute + time.Second, 0},
	} {
		if got := take(step.owner, step.made, step.now); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
	}
	c.sweep(start.Add(time.Hour))
	if len(c.known) != 0 {
		t.Errorf("remembered for ever: %v", c.known)
	}
}
