package node

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

func testKeeper(client *fake.Clientset, observe func() Facts) *Keeper {
	return NewKeeper("v", client, slog.New(slog.DiscardHandler), prometheus.NewCounter(prometheus.CounterOpts{Name: "changes_total"}), observe)
}

// A Node of that name that is not ours is neither taken over nor written to.
func TestForeignNodeIsRefused(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "v", Labels: map[string]string{keys.Cluster: "other"}}})
	k := testKeeper(client, func() Facts { return Facts{Name: "v"} })
	err := k.keep(t.Context())
	if err == nil || !strings.Contains(err.Error(), "node v exists and is not a virtual node") {
		t.Errorf("got %v", err)
	}
	for _, action := range client.Actions() {
		if action.GetVerb() != "get" {
			t.Errorf("written: %v", action)
		}
	}
}

func TestTaintIsPutBack(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "v", Labels: map[string]string{keys.Cluster: "v"}}})
	node, err := testKeeper(client, nil).claim(t.Context())
	if err != nil || len(node.Spec.Taints) != 1 || node.Spec.Taints[0].Key != keys.VirtualTaint {
		t.Errorf("taints %v, err %v", node.Spec.Taints, err)
	}
}

// Many changes make few writes, the last one always among them, and no change makes none.
func TestWritesAreCoalesced(t *testing.T) {
	t.Parallel()
	var pods atomic.Int64
	observe := func() Facts {
		at := time.Now()
		return Facts{Name: "v", Health: lower.Health{Synced: true, Contact: at}, Snapshot: picture(snapshot.NewNode(lowerNode("a"), nil)),
			Own: snapshot.Resources{MilliCPU: pods.Load()}}
	}
	k := testKeeper(fake.NewClientset(), observe)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := make(chan *corev1.Node, 100)
	feed := newFeed()
	feed.NotifyNodeStatus(ctx, func(node *corev1.Node) { sent <- node })
	first := observe()
	go k.publish(ctx, feed, first.node(time.Now()))
	for range 1000 {
		pods.Add(1)
		k.Touch()
	}
	writes := 0
	deadline := time.After(10 * time.Second)
	for last := int64(0); last != 33000; {
		select {
		case node := <-sent:
			writes++
			last = node.Status.Allocatable.Cpu().MilliValue()
		case <-deadline:
			t.Fatalf("the last change was not written; %d writes", writes)
		}
	}
	if writes > 5 {
		t.Errorf("%d writes for one burst", writes)
	}
	k.Touch()
	select {
	case <-sent:
		t.Error("nothing changed, and yet it was written")
	case <-time.After(2 * publishInterval):
	}
}
