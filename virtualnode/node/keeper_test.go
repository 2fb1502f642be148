package node

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

func testKeeper(client *fake.Clientset, observe func() Facts) *Keeper {
	return NewKeeper(Setup{
		Name: "v", Client: client, Log: slog.New(slog.DiscardHandler), Observe: observe,
		Changes: prometheus.NewCounter(prometheus.CounterOpts{Name: "changes_total"}), Claimed: func(*corev1.Node) {},
		Standing: func() (*corev1.Node, bool) { return nil, false }, ProviderID: func() string { return "" },
		Evictions: rate.NewLimiter(rate.Every(time.Hour), 1),
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

// What node-lifecycle wrote over our conditions while we were away is written over; what others say beside them is theirs.
func TestConditionsAreTakenBack(t *testing.T) {
	t.Parallel()
	facts := Facts{Name: "v", Health: lower.Health{Synced: true, Contact: now, Answered: now}, Snapshot: picture(snapshot.NewNode(lowerNode("a"), nil))}
	last := facts.node(now)
	set := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			for i := range n.Status.Conditions {
				if c := &n.Status.Conditions[i]; c.Type == kind {
					c.Status, c.Reason = status, reason
					return
				}
			}
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: kind, Status: status, Reason: reason})
		}
	}
	for name, c := range map[string]struct {
		change func(*corev1.Node)
		want   bool
	}{
		"as we wrote it":   {func(*corev1.Node) {}, false},
		"taken for dead":   {set(corev1.NodeReady, corev1.ConditionUnknown, "NodeStatusUnknown"), true},
		"pressure unknown": {set(corev1.NodeDiskPressure, corev1.ConditionUnknown, "NodeStatusUnknown"), true},
		"a cloud's routes": {set(corev1.NodeNetworkUnavailable, corev1.ConditionTrue, "NoRouteCreated"), false},
		"somebody's own":   {set("example.com/Mine", corev1.ConditionTrue, "Mine"), false},
	} {
		k := testKeeper(fake.NewClientset(), nil)
		standing := last.DeepCopy()
		c.change(standing)
		k.Standing = func() (*corev1.Node, bool) { return standing, true }
		if got := k.overwritten(last); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A Node is brought back with what others gave it, and its own taints are put back, theirs left.
func TestNodeStands(t *testing.T) {
	t.Parallel()
	facts := Facts{Name: "v", Health: lower.Health{Synced: true, Contact: now, Answered: now}, Snapshot: picture(snapshot.NewNode(lowerNode("a"), nil))}
	wanted := facts.node(now)
	theirs := corev1.Taint{Key: "example.com/keep", Effect: corev1.TaintEffectNoExecute}
	byNobody := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	unusable := corev1.Taint{Key: keys.UnusableTaint, Effect: corev1.TaintEffectNoSchedule}
	before := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "v", Labels: map[string]string{keys.Cluster: "v", "team": "a"},
			Annotations: map[string]string{lastAppliedMeta: `{"labels":{"tessera.sh/cluster":"v"}}`, "note": "x"},
		},
		Spec: corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{theirs, byNobody, unusable}},
	}
	client := fake.NewClientset(before.DeepCopy())
	k := testKeeper(client, nil)
	var standing *corev1.Node
	k.Standing = func() (*corev1.Node, bool) { return standing, true }
	k.ProviderID = func() string { return "tessera://us/v" }
	stands := func(taints ...corev1.Taint) {
		t.Helper()
		var err error
		if standing, err = client.CoreV1().Nodes().Get(t.Context(), "v", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(taints, standing.Spec.Taints); diff != "" {
			t.Errorf("taints: %s", diff)
		}
		if !standing.Spec.Unschedulable || standing.Labels["team"] != "a" || standing.Spec.ProviderID != "tessera://us/v" {
			t.Errorf("labels %v, spec %v", standing.Labels, standing.Spec)
		}
		client.ClearActions()
		if err := k.stand(t.Context(), wanted); err != nil || len(client.Actions()) > 0 {
			t.Errorf("once more: %v, %v", err, client.Actions())
		}
	}
	standing = before
	if err := k.stand(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	stands(theirs, byNobody, wanted.Spec.Taints[0])
	if err := client.CoreV1().Nodes().Delete(t.Context(), "v", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	standing = nil
	if err := k.stand(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	stands(wanted.Spec.Taints[0], theirs)
	if standing.Annotations["note"] != "x" || standing.Annotations[lastAppliedMeta] != "" {
		t.Errorf("annotations %v", standing.Annotations)
	}
}

// Pods leave a Node that says that its cluster is lost, once it says so itself, and not those of many at once.
func TestPodsLeaveLostNodes(t *testing.T) {
	t.Parallel()
	lost := Facts{Name: "v", Health: lower.Health{Err: context.DeadlineExceeded}}
	ready := Facts{Name: "v", Health: lower.Health{Synced: true, Contact: now, Answered: now}}
	left := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}
	k := testKeeper(fake.NewClientset(), nil)
	evicts := func(standing, wanted *corev1.Node) bool { return hasTaint(k.evicting(standing, wanted), left) }
	unknown := ready.node(now)
	unknown.Status.Conditions[0].Status = corev1.ConditionUnknown
	for name, standing := range map[string]*corev1.Node{"not said yet": ready.node(now), "said by others": unknown} {
		if evicts(standing, lost.node(now)) {
			t.Errorf("%s: pods leave", name)
		}
	}
	if evicts(lost.node(now), ready.node(now)) {
		t.Error("pods leave a node that is about to be ready")
	}
	tainted := k.evicting(lost.node(now), lost.node(now))
	if !hasTaint(tainted, left) || tainted.Spec.Taints[len(tainted.Spec.Taints)-1].TimeAdded.IsZero() {
		t.Errorf("pods stay: %v", tainted.Spec.Taints)
	}
	if after := (&corev1.Node{Spec: k.spec(tainted, ready.node(now))}); !hasTaint(after, left) {
		t.Errorf("what is node-lifecycle's to take away is gone: %v", after.Spec.Taints)
	}
	if evicts(lost.node(now), lost.node(now)) {
		t.Error("a second node's pods leave at the same time")
	}
	select {
	case <-k.dirty:
	case <-time.After(10 * time.Second):
		t.Error("the second node is not looked at again")
	}
}

// Many changes make few writes, the last one always among them, and no change makes none.
func TestWritesAreCoalesced(t *testing.T) {
	t.Parallel()
	var pods atomic.Int64
	observe := func() Facts {
		at := time.Now()
		return Facts{Name: "v", Health: lower.Health{Synced: true, Contact: at, Answered: at}, Snapshot: picture(snapshot.NewNode(lowerNode("a"), nil)),
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
