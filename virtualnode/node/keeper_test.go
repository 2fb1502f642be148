package node

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

func testKeeper(client *fake.Clientset, observe func() Facts) *Keeper {
	return NewKeeper(Setup{
		Name: "v", Client: client, Log: slog.New(slog.DiscardHandler), Observe: observe, LeaseStopsAfter: time.Hour,
		Changes: prometheus.NewCounter(prometheus.CounterOpts{Name: "changes_total"}), Health: func() lower.Health { return observe().Health },
	})
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
	case <-time.After(publishInterval + roomPatience):
	}
}

// The lease is renewed for as long as the lower cluster answers or is missed for less than its time.
func TestLeaseStops(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	cases := map[string]struct {
		contact time.Time
		unready time.Time
		renewed bool
	}{
		"answers":                              {at(0), time.Time{}, true},
		"silent for a moment":                  {at(30 * time.Second), at(20 * time.Second), true},
		"silent for too long":                  {at(time.Minute), at(50 * time.Second), false},
		"not heard of yet":                     {time.Time{}, time.Time{}, true},
		"not heard of, NotReady for a moment":  {time.Time{}, at(30 * time.Second), true},
		"not heard of, NotReady for long":      {time.Time{}, at(time.Hour), false},
		"NotReady for long for another reason": {at(0), at(time.Hour), true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "v", Namespace: "kube-node-lease"}})
			k := NewKeeper(Setup{Name: "v", LeaseStopsAfter: 40 * time.Second, Health: func() lower.Health { return lower.Health{Contact: c.contact} }})
			ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue}
			if !c.unready.IsZero() {
				ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(c.unready)
			}
			k.note(&corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{ready}}})
			renewal := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "v", Namespace: "kube-node-lease", ResourceVersion: "7"}}
			got, err := leases{client.CoordinationV1().Leases("kube-node-lease"), k.lost}.Update(t.Context(), renewal, metav1.UpdateOptions{})
			if err != nil || got.ResourceVersion != "7" {
				t.Errorf("got %v, %v", got, err)
			}
			if written := len(client.Actions()) > 0; written != c.renewed {
				t.Errorf("renewed %v, want %v", written, c.renewed)
			}
		})
	}
}

// The status of a lost cluster beats, so that the upper cluster keeps its reason; that of another does not.
func TestStatusBeatsOnceTheLeaseHasStopped(t *testing.T) {
	t.Parallel()
	lost := Facts{Name: "v", Health: lower.Health{Synced: true, Contact: time.Now().Add(-time.Hour)}}
	k := testKeeper(fake.NewClientset(), func() Facts { return lost })
	k.LeaseStopsAfter = time.Minute
	sent := make(chan *corev1.Node, 100)
	feed := newFeed()
	feed.NotifyNodeStatus(t.Context(), func(node *corev1.Node) { sent <- node })
	go k.publish(t.Context(), feed, lost.node(time.Now()))
	select {
	case node := <-sent:
		if got := node.Status.Conditions[0]; got.Reason != reasonUnreachable {
			t.Errorf("got %+v", got)
		}
	case <-time.After(4 * beatInterval):
		t.Error("nothing was sent")
	}
}
