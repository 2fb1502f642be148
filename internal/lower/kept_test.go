package lower

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// byNode is an index of the test.
const byNode = "node"

// keeping runs a watch that keeps the pods of ours, and returns them and what its handler is told.
func keeping(t *testing.T, s *apiServer) (*Kept, <-chan string) {
	t.Helper()
	watch, err := NewWatch("a", "us", s.config(), slog.New(slog.DiscardHandler), func(*snapshot.Snapshot) {})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := watch.Keep(func(pod *corev1.Pod) bool { return pod.Labels[keys.Upper] == "us" }, cache.Indexers{
		byNode: func(object any) ([]string, error) { return []string{object.(*corev1.Pod).Spec.NodeName}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 100)
	tell := func(what string, object any) {
		pod := object.(*corev1.Pod)
		now, there, _ := kept.GetByKey("ns/" + pod.Name)
		if there && now.(*corev1.Pod).UID != pod.UID {
			t.Errorf("%s %s was told before the cache had it", what, pod.Name)
		}
		told <- fmt.Sprintf("%s %s %s", what, pod.Name, pod.UID)
	}
	if _, err := kept.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { tell("added", object) }, UpdateFunc: func(_, object any) { tell("changed", object) },
		DeleteFunc: func(object any) {
			if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				tell("missed", tombstone.Obj)
				return
			}
			tell("deleted", object)
		},
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		watch.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return kept, told
}

// heard waits for so many words, in any order.
func heard(t *testing.T, told <-chan string, want ...string) {
	t.Helper()
	var got []string
	deadline := time.After(30 * time.Second)
	for len(got) < len(want) {
		select {
		case word := <-told:
			got = append(got, word)
		case <-deadline:
			t.Fatalf("told %q, want %q", got, want)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func names(objects []any) []string {
	found := []string{}
	for _, object := range objects {
		found = append(found, object.(*corev1.Pod).Name)
	}
	slices.Sort(found)
	return found
}

// What is kept looks like an informer with a label selector: strangers are not in it, a pod that loses its label has gone, one
// that gets it has come, and one that went in a gap of the watch is a tombstone.
func TestKept(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.set(lowerNode("n1"))
	s.set(lowerPod("ours", "1", "u1", "n1"))
	s.set(lowerPod("strange", "2", "", "n1"))
	kept, told := keeping(t, s)
	heard(t, told, "added ours 1")

	s.set(lowerPod("strange", "2", "", "n2"))
	s.set(lowerPod("more", "3", "u3", ""))
	s.set(lowerPod("more", "3", "u3", "n2"))
	heard(t, told, "added more 3", "changed more 3")
	on, err := kept.ByIndex(byNode, "n2")
	if diff := cmp.Diff([]string{"more"}, names(on)); err != nil || diff != "" {
		t.Errorf("on n2: %v %s", err, diff)
	}
	if diff := cmp.Diff([]string{"more", "ours"}, names(kept.List())); diff != "" {
		t.Errorf("kept: %s", diff)
	}
	values := kept.ListIndexFuncValues(byNode)
	slices.Sort(values)
	if diff := cmp.Diff([]string{"n1", "n2"}, slices.DeleteFunc(values, func(v string) bool { return v == "" })); diff != "" {
		t.Errorf("values of the index: %s", diff)
	}
	if _, there, _ := kept.GetByKey("ns/strange"); there {
		t.Error("a stranger is kept")
	}

	s.set(lowerPod("ours", "1", "", "n1"))
	s.set(lowerPod("strange", "2", "u2", "n1"))
	heard(t, told, "deleted ours 1", "added strange 2")
	s.remove(lowerPod("more", "3", "", ""))
	heard(t, told, "deleted more 3")

	s.leave()
	s.remove(lowerPod("strange", "2", "", ""))
	s.set(lowerPod("late", "4", "u4", ""))
	s.comeBack(true)
	heard(t, told, "missed strange 2", "added late 4")
	if diff := cmp.Diff([]string{"late"}, names(kept.List())); diff != "" {
		t.Errorf("kept after the gap: %s", diff)
	}
}
