package lifecycles

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/tombstone"
)

// life is all that was ever seen of one pod object.
type life struct {
	name string
	// standsFor is the upper pod that a lower one says it stands for.
	standsFor types.UID
	// starts is how often it was seen to begin to run, restarts the most that its status counted.
	starts, restarts int
	last             *corev1.Pod
	gone             bool
}

// census keeps what is seen of the pods of one namespace on one side, by UID. A watch that breaks is taken up again, with
// a list where it has to be; what was created and deleted in such a gap only the events of the scheduler tell.
type census struct {
	mu    sync.Mutex
	lives map[types.UID]*life
}

// takeCensus watches until stop is closed; it returns once the pods have been listed.
func takeCensus(c kubernetes.Interface, namespace string, stop <-chan struct{}) (*census, error) {
	s := &census{lives: map[types.UID]*life{}}
	informer := coreinformers.NewPodInformer(c, namespace, 0, cache.Indexers{})
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { s.see(object, false) },
		UpdateFunc: func(before, now any) {
			if before.(*corev1.Pod).UID != now.(*corev1.Pod).UID { // One went and another came in a gap.
				s.see(before, true)
			}
			s.see(now, false)
		},
		DeleteFunc: func(object any) { s.see(object, true) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	go informer.Run(stop)
	if !cache.WaitForCacheSync(stop, informer.HasSynced) {
		return nil, fmt.Errorf("watching pods: stopped before they were listed")
	}
	return s, nil
}

func (s *census) see(object any, gone bool) {
	last, _ := tombstone.Unwrap(object)
	pod, ok := last.(*corev1.Pod)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lives[pod.UID]
	if l == nil {
		l = &life{name: pod.Name}
		s.lives[pod.UID] = l
	}
	if pod.Status.Phase == corev1.PodRunning && (l.last == nil || l.last.Status.Phase != corev1.PodRunning) {
		l.starts++
	}
	for i := range pod.Status.ContainerStatuses {
		l.restarts = max(l.restarts, int(pod.Status.ContainerStatuses[i].RestartCount))
	}
	l.last, l.gone, l.standsFor = pod, gone, types.UID(pod.Annotations[keys.UpperUID])
}

// get returns what is known of a pod; the zero life if it was never seen.
func (s *census) get(uid types.UID) life {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lives[uid]; l != nil {
		return *l
	}
	return life{}
}

// below returns the living lower pod that stands for an upper one.
func (s *census) below(upper types.UID) (*corev1.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lives {
		if l.standsFor == upper && !l.gone {
			return l.last, true
		}
	}
	return nil, false
}

// all returns a copy of everything.
func (s *census) all() map[types.UID]life {
	s.mu.Lock()
	defer s.mu.Unlock()
	lives := make(map[types.UID]life, len(s.lives))
	for uid, l := range s.lives {
		lives[uid] = *l
	}
	return lives
}
