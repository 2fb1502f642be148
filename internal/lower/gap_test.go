package lower

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/history"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// follower runs a Watch and looks at every snapshot that it publishes.
type follower struct {
	t     *testing.T
	watch *Watch

	mu     sync.Mutex
	ended  chan error // what Run returned
	last   *snapshot.Snapshot
	count  int
	came   chan struct{} // closed at every snapshot
	always []types.UID   // pods of ours that no snapshot may miss from now on
}

func follow(t *testing.T, s *apiServer) *follower {
	t.Helper()
	f := &follower{t: t, came: make(chan struct{}), ended: make(chan error, 1)}
	var err error
	if f.watch, err = NewWatch("a", "us", s.config(), slog.New(slog.DiscardHandler), f.publish); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ended <- f.watch.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f
}

func (f *follower) publish(now *snapshot.Snapshot) {
	if err := consistent(now); err != nil {
		f.t.Errorf("snapshot %d: %v", f.count, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, uid := range f.always {
		if now.Own[uid] == nil {
			f.t.Errorf("snapshot %d: our pod %s neither waits nor runs", f.count, uid)
		}
	}
	f.last = now
	f.count++
	close(f.came)
	f.came = make(chan struct{})
}

func (f *follower) mustKeep(uids ...types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.always = uids
}

// until waits for a snapshot about which nothing is wrong.
func (f *follower) until(wrong func(*snapshot.Snapshot) string) *snapshot.Snapshot {
	f.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		f.mu.Lock()
		last, came := f.last, f.came
		f.mu.Unlock()
		fault := "nothing was published"
		if last != nil {
			fault = wrong(last)
		}
		if fault == "" {
			return last
		}
		select {
		case <-came:
		case <-deadline:
			f.t.Fatal(fault)
		}
	}
}

// consistent looks at one snapshot by itself: every pod counts once, and what it is charged for is what is on the nodes.
func consistent(s *snapshot.Snapshot) error {
	on := map[types.UID]string{}
	for _, node := range s.Nodes {
		var used snapshot.Resources
		for _, pod := range node.Pods {
			if where, twice := on[pod.UID]; twice {
				return fmt.Errorf("pod %s is on %s and on %s", pod.UID, where, node.Name())
			}
			on[pod.UID] = node.Name()
			used = used.Plus(pod.Requests)
			if pod.Finished || pod.Node != node.Name() {
				return fmt.Errorf("pod %s, of node %q, finished %t, is among those of %s", pod.UID, pod.Node, pod.Finished, node.Name())
			}
		}
		if diff := cmp.Diff(used, node.Used); diff != "" {
			return fmt.Errorf("%s: used is not the sum of its pods:\n%s", node.Name(), diff)
		}
		if diff := cmp.Diff(node.Allocatable.Minus(used), node.Free()); diff != "" {
			return fmt.Errorf("%s: free is not what is left:\n%s", node.Name(), diff)
		}
	}
	if len(on) > s.Pods {
		return fmt.Errorf("%d pods are on nodes, of %d in all", len(on), s.Pods)
	}
	for uid, own := range s.Own {
		counts := own.Node != "" && !own.Finished && s.Node(own.Node) != nil
		if _, there := on[own.UID]; there != counts {
			return fmt.Errorf("our pod %s is said to be on %q, finished %t; among the pods of a node: %t", uid, own.Node, own.Finished, there)
		}
	}
	return nil
}

func lowerNode(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{"cpu": resource.MustParse("8"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")},
		},
	}
}

// lowerPod is a pod of one CPU, of ours if upper is the UID of a pod above.
func lowerPod(name, uid, upper, node string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(uid)}}
	pod.Spec.NodeName = node
	pod.Spec.Containers = []corev1.Container{{
		Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}},
	}}
	if upper != "" {
		pod.Labels, pod.Annotations = map[string]string{keys.Upper: "us"}, map[string]string{
			keys.UpperUID: upper, keys.UpperNamespace: pod.Namespace, keys.UpperName: pod.Name,
		}
	}
	return pod
}

// places says of every pod where it counts: on a node, or as one of ours that has none.
func places(s *snapshot.Snapshot) map[string][]string {
	where := map[string][]string{}
	for _, node := range s.Nodes {
		where[node.Name()] = []string{}
		for _, pod := range node.Pods {
			where[node.Name()] = append(where[node.Name()], string(pod.UID))
		}
		slices.Sort(where[node.Name()])
	}
	for uid, own := range s.Own {
		where["own "+string(uid)] = []string{own.Node}
	}
	return where
}

func differs(want map[string][]string, pods int) func(*snapshot.Snapshot) string {
	return func(s *snapshot.Snapshot) string {
		diff := cmp.Diff(want, places(s))
		if s.Pods != pods {
			diff += fmt.Sprintf("%d unfinished pods, want %d", s.Pods, pods)
		}
		return diff
	}
}

// While the watch is away one pod is deleted, one is made anew under its name, one is placed, and a node vanishes with a pod
// still on it. What the API server remembers of that time is gone when the watch comes back.
func TestAGapInTheWatch(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"410 Gone, and everything is listed anew": true, "the watch goes on where it was": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPIServer(t)
			s.set(lowerNode("n1"))
			s.set(lowerNode("n2"))
			s.set(lowerPod("deleted", "1", "u1", "n1"))
			s.set(lowerPod("anew", "2", "u2", "n1"))
			s.set(lowerPod("stays", "3", "u3", "n2"))
			s.set(lowerPod("waits", "4", "u4", ""))
			f := follow(t, s)
			f.until(differs(map[string][]string{
				"n1": {"1", "2"}, "n2": {"3"}, "own u1": {"n1"}, "own u2": {"n1"}, "own u3": {"n2"}, "own u4": {""},
			}, 4))
			s.set(lowerNode("n3")) // A watch that has told of nothing would not be gone on with, but begun anew.
			s.set(lowerPod("strange", "5", "", "n3"))
			f.until(differs(map[string][]string{
				"n1": {"1", "2"}, "n2": {"3"}, "n3": {"5"}, "own u1": {"n1"}, "own u2": {"n1"}, "own u3": {"n2"}, "own u4": {""},
			}, 5))
			f.mustKeep("u3", "u4")
			s.leave()
			s.remove(lowerPod("deleted", "1", "", ""))
			s.remove(lowerPod("anew", "2", "", ""))
			s.set(lowerPod("anew", "6", "u6", "n3"))
			s.remove(lowerNode("n2"))
			s.set(lowerPod("waits", "4", "u4", "n1"))
			s.comeBack(forget)
			f.until(differs(map[string][]string{
				"n1": {"4"}, "n3": {"5", "6"}, "own u3": {"n2"}, "own u4": {"n1"}, "own u6": {"n3"},
			}, 4))
			if got := s.gone(); (got > 0) != forget {
				t.Errorf("%d requests were answered with 410", got)
			}
			// The node is back, and the pod that was on it all the time counts there again.
			f.mustKeep("u3", "u6")
			s.set(lowerNode("n2"))
			s.remove(lowerPod("waits", "4", "", ""))
			f.until(differs(map[string][]string{
				"n1": {}, "n2": {"3"}, "n3": {"5", "6"}, "own u3": {"n2"}, "own u6": {"n3"},
			}, 3))
		})
	}
}

// The health tells of a watch that cannot be had, and no longer once it works.
func TestHealthInAGap(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.set(lowerNode("n1"))
	f := follow(t, s)
	f.until(differs(map[string][]string{"n1": {}}, 0))
	s.fail()
	left := time.Now()
	f.eventually(func() error {
		health := f.watch.Health()
		if !health.Synced || health.Err == nil || health.Contact.After(left.Add(5*time.Second)) {
			return fmt.Errorf("%+v", health)
		}
		return nil
	})
	s.comeBack(true)
	back := time.Now()
	f.eventually(func() error {
		if health := f.watch.Health(); health.Err != nil || health.Contact.Before(back) {
			return fmt.Errorf("%+v", health)
		}
		return nil
	})
}

// eventually polls the health, which nothing announces.
func (f *follower) eventually(check func() error) {
	f.t.Helper()
	err := errors.New("not asked")
	for deadline := time.Now().Add(30 * time.Second); err != nil; err = check() {
		if time.Now().After(deadline) {
			f.t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// A node is built anew when something on it has changed, and only then.
func TestRowsAreKept(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	for _, node := range []string{"n1", "n2"} {
		s.set(lowerNode(node))
	}
	s.set(lowerPod("p", "1", "u1", "n1"))
	f := follow(t, s)
	want := map[string][]string{"n1": {"1"}, "n2": {}, "own u1": {"n1"}}
	first := f.until(differs(want, 1))
	steps := map[string]func(){
		"a pod comes":      func() { s.set(lowerPod("q", "2", "", "n2")); want["n2"] = []string{"2"} },
		"a pod goes":       func() { s.remove(lowerPod("q", "2", "", "n2")); want["n2"] = []string{} },
		"a pod is another": func() { s.set(lowerPod("q", "3", "", "n2")); want["n2"] = []string{"3"} },
	}
	for _, step := range []string{"a pod comes", "a pod goes", "a pod is another"} {
		steps[step]()
		next := f.until(differs(want, len(want["n1"])+len(want["n2"])))
		if next.Node("n1") != first.Node("n1") {
			t.Errorf("%s to n2, and n1 was built anew", step)
		}
		if next.Node("n2") == first.Node("n2") {
			t.Errorf("%s to n2, and n2 is the same", step)
		}
		first = next
	}
}

// A cluster that was restored from a backup tells its watches nothing more: who runs the watch has to begin anew.
func TestAnEarlierHistoryIsNoticed(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.set(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	f := follow(t, s)
	f.until(func(now *snapshot.Snapshot) string {
		if now.Node("n") == nil {
			return "the node is missing"
		}
		return ""
	})
	s.goBack(50)
	select {
	case err := <-f.ended:
		if !errors.Is(err, history.ErrWentBack) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it goes on")
	}
}
