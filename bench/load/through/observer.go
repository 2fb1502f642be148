package through

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// seen is when the watches told of a pod, by this process's clock; zero before.
type seen struct{ bound, exists, runsBelow, runsAbove time.Time }

// observer notes what the watches of both sides tell of the pods of one namespace.
type observer struct {
	mu   sync.Mutex
	pods map[string]*seen
}

// observe watches until ctx ends; it returns once the watches stand.
func observe(ctx context.Context, s *site, namespace string) (*observer, error) {
	o := &observer{pods: map[string]*seen{}}
	if err := o.follow(ctx, s.upper, namespace, func(p *seen) *time.Time { return &p.bound },
		func(p *seen) *time.Time { return &p.runsAbove }); err != nil {
		return nil, err
	}
	return o, o.follow(ctx, s.lower, namespace, func(p *seen) *time.Time { return &p.exists },
		func(p *seen) *time.Time { return &p.runsBelow })
}

// follow notes when each pod of one side first exists and first runs. A watch that ends is begun anew.
func (o *observer) follow(ctx context.Context, c kubernetes.Interface, namespace string, exists, runs func(*seen) *time.Time) error {
	open := func() (watch.Interface, error) {
		w, err := c.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("watching pods: %w", err)
		}
		return w, nil
	}
	watcher, err := open()
	if err != nil {
		return err
	}
	go func() {
		for err == nil {
			for event := range watcher.ResultChan() {
				if pod, ok := event.Object.(*corev1.Pod); ok {
					o.note(pod, exists, runs)
				}
			}
			watcher, err = open() // Fails for good when ctx has ended.
		}
	}()
	return nil
}

func (o *observer) note(pod *corev1.Pod, exists, runs func(*seen) *time.Time) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pods[pod.Name]
	if p == nil {
		p = &seen{}
		o.pods[pod.Name] = p
	}
	if at := exists(p); at.IsZero() {
		*at = now
	}
	if at := runs(p); at.IsZero() && pod.Status.Phase == corev1.PodRunning {
		*at = now
	}
}

// count tells how many pods have a time, and the latest of those times.
func (o *observer) count(of func(*seen) time.Time) (n int, last time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pods {
		if at := of(p); !at.IsZero() {
			n++
			if at.After(last) {
				last = at
			}
		}
	}
	return n, last
}

// delays are the times between two moments of each pod that has both. What came in the other order is 0: the
// two watches are two connections.
func (o *observer) delays(from, to func(*seen) time.Time) []time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []time.Duration
	for _, p := range o.pods {
		if a, b := from(p), to(p); !a.IsZero() && !b.IsZero() {
			all = append(all, max(0, b.Sub(a)))
		}
	}
	return all
}

// wait waits until n pods have a time, at most until nothing has been added for lostAfter.
func (o *observer) wait(ctx context.Context, n int, of func(*seen) time.Time) (got int, last time.Time) {
	since := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		now, at := o.count(of)
		if now > got {
			since = time.Now()
		}
		if got, last = now, at; got >= n || time.Since(since) > lostAfter {
			return got, last
		}
		select {
		case <-ctx.Done():
			return got, last
		case <-ticker.C:
		}
	}
}

func bound(p *seen) time.Time     { return p.bound }
func exists(p *seen) time.Time    { return p.exists }
func runsBelow(p *seen) time.Time { return p.runsBelow }
func runsAbove(p *seen) time.Time { return p.runsAbove }
