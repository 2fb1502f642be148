package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	vknode "github.com/virtual-kubelet/virtual-kubelet/node"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Times of the keeper.
const (
	publishInterval   = 500 * time.Millisecond // between two writes of the node's status
	lookInterval      = 100 * time.Millisecond // between two looks that found nothing to write: events of pods come by the hundred
	roomPatience      = time.Second            // for a pod that has been counted on one side to be counted on the other
	settlePatience    = 5 * time.Second        // for the first look at a cluster whose node stood as Ready
	registerRetry     = 5 * time.Second
	heartbeatInterval = 5 * time.Minute // of the status, while the lease is renewed
	nodeWriteTimeout  = 10 * time.Second
)

// Keeper registers one virtual node, renews its lease and writes its status whenever that changes.
type Keeper struct {
	Setup
	// dirty has an element when something changed since the status was last made.
	dirty chan struct{}
	// seen is the Node as it last stood; nil before.
	seen atomic.Pointer[corev1.Node]
	// room and timer are about when its room is written anew. The publisher's alone.
	room  room
	timer *time.Timer
}

// Setup is what a keeper works with.
type Setup struct {
	// Name is that of the virtual node.
	Name   string
	Client kubernetes.Interface
	Log    *slog.Logger
	// Changes counts the changes written.
	Changes prometheus.Counter
	// Observe returns the facts of the moment; the time is read before, so that this process may be stopped in between.
	Observe func() Facts
	// Claimed is told of the Node that was found at the start, nil if there was none, once it is known to be ours.
	Claimed func(*corev1.Node)
	// Standing returns the Node as the upper cluster shows it now, nil if there is none; known is false before it was listed.
	Standing func() (node *corev1.Node, known bool)
	// ProviderID is that of the Node, "" for none.
	ProviderID func() string
	// Evictions are as many Nodes of all keepers as may begin to be without pods, because their clusters are lost.
	Evictions *rate.Limiter
}

// NewKeeper returns a keeper that does nothing before Run.
func NewKeeper(setup Setup) *Keeper { return &Keeper{Setup: setup, dirty: make(chan struct{}, 1)} }

// Touch asks for the status to be made anew.
func (k *Keeper) Touch() {
	select {
	case k.dirty <- struct{}{}:
	default: // It is asked for already.
	}
}

// Run keeps the node until ctx ends. The Node object stays: its lease runs out, which is what has happened.
func (k *Keeper) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := k.keep(ctx); err != nil && ctx.Err() == nil {
			k.Log.Error("Virtual node cannot be kept, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(registerRetry):
		}
	}
}

// keep registers the node and serves it until ctx ends or the registration fails.
func (k *Keeper) keep(ctx context.Context) error {
	before, err := k.claim(ctx)
	if err != nil {
		return err
	}
	k.Claimed(before)
	facts, now := k.settle(ctx, before)
	node := facts.node(now)
	k.room.wrote(facts)
	feed := newFeed()
	node.Spec.ProviderID = k.ProviderID()
	nodes := ownNodes{k.Client.CoreV1().Nodes()}
	controller, err := vknode.NewNodeController(feed, node.DeepCopy(), nodes,
		vknode.WithNodeEnableLeaseV1WithRenewInterval(
			k.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease), vknode.DefaultLeaseDuration, beatInterval),
		vknode.WithNodeStatusUpdateInterval(heartbeatInterval),
		vknode.WithNodeStatusUpdateErrorHandler(func(ctx context.Context, err error) error {
			if !apierrors.IsNotFound(err) {
				return err
			}
			now := time.Now()
			facts := k.Observe()
			return k.restore(ctx, facts.node(now))
		}),
	)
	if err != nil {
		return fmt.Errorf("building node controller: %w", err)
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() {
		select {
		case <-controller.Ready():
			k.Log.Info("Virtual node is registered")
			k.publish(publishing, feed, node)
		case <-publishing.Done():
		}
	})
	err = controller.Run(ctx)
	stop()
	group.Wait()
	return err
}

// claim returns the Node of our name, nil if there is none. A Node that is not ours is an error: it is never taken over.
func (k *Keeper) claim(ctx context.Context) (*corev1.Node, error) {
	node, err := ownNodes{k.Client.CoreV1().Nodes()}.Get(ctx, k.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading node %s: %w", k.Name, err)
	}
	return node, k.renew(ctx)
}

// settle returns the first facts. Where the Node stands as Ready, or as usable, it waits a moment for the lower cluster to be listed:
// a restart of this process is no reason to say otherwise, which would make the pods of the node NotReady, or keep new ones off it.
func (k *Keeper) settle(ctx context.Context, before *corev1.Node) (Facts, time.Time) {
	patience := time.After(settlePatience)
	for {
		now := time.Now()
		facts := k.Observe()
		facts.before = before
		if facts.Broken != "" || !facts.worse(now) {
			return facts, now
		}
		select {
		case <-ctx.Done():
			return facts, now
		case <-patience:
			return facts, now
		case <-k.dirty:
		}
	}
}

// publish hands every change of the node on, at most one per publishInterval; the last one always. What virtual-kubelet does not
// look after is written at once, whenever the Node stands otherwise.
func (k *Keeper) publish(ctx context.Context, feed *feed, last *corev1.Node) {
	k.Touch() // For what happened while the node was being registered.
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.dirty:
		}
		node := k.changed(ctx, last)
		if node != nil {
			last = node
		}
		if err := k.stand(ctx, last); err != nil && ctx.Err() == nil {
			k.Log.Warn("Virtual node does not stand as it should, trying again", "err", err)
			time.AfterFunc(publishInterval, k.Touch)
		}
		if node == nil && !k.overwritten(last) {
			if !pause(ctx, lookInterval) {
				return
			}
			continue
		}
		node = last
		if !feed.send(ctx, node.DeepCopy()) || !pause(ctx, publishInterval) {
			return
		}
	}
}

// changed returns the node as it is now, nil if that is no news. A change of the room alone is written when it has to be, and is
// looked at again after a moment even then: a pod that is bound above and not yet below, or has ended below and not yet above,
// changes nothing in the end.
func (k *Keeper) changed(ctx context.Context, last *corev1.Node) *corev1.Node {
	node, facts := k.make(last)
	if onlyRoom(node, last) {
		if due, again := k.room.due(facts, last, time.Now()); !due {
			k.later(again)
			return nil
		}
		if !pause(ctx, roomPatience) {
			return nil
		}
		if node, facts = k.make(last); onlyRoom(node, last) {
			if due, again := k.room.due(facts, last, time.Now()); !due {
				k.later(again)
				return nil
			}
		}
	}
	if equality.Semantic.DeepEqual(node, last) {
		return nil
	}
	k.room.wrote(facts)
	k.Changes.Inc()
	k.tell(last, node)
	return node
}

// later asks for another look after a time, 0 is never. Of several the last one counts.
func (k *Keeper) later(d time.Duration) {
	if k.timer != nil {
		k.timer.Stop()
	}
	if d > 0 {
		k.timer = time.AfterFunc(d, k.Touch)
	}
}

func (k *Keeper) make(last *corev1.Node) (*corev1.Node, Facts) {
	now := time.Now()
	facts := k.Observe()
	facts.before = last
	return facts.node(now), facts
}

// onlyRoom reports whether two nodes differ in what they have and can give, and in nothing else.
func onlyRoom(a, b *corev1.Node) bool {
	equal := equality.Semantic.DeepEqual
	if equal(a.Status.Allocatable, b.Status.Allocatable) && equal(a.Status.Capacity, b.Status.Capacity) {
		return false
	}
	same := *a
	same.Status.Allocatable, same.Status.Capacity = b.Status.Allocatable, b.Status.Capacity
	return equal(&same, b)
}

// pause waits; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// tell logs what becomes of the node's readiness and usability.
func (k *Keeper) tell(last, node *corev1.Node) {
	for i, kind := range []string{"ready", "usable"} { // They are the first ones, in this order.
		before, now := last.Status.Conditions[i], node.Status.Conditions[i]
		if before.Status != now.Status || before.Reason != now.Reason {
			k.Log.Info("Virtual node changes", kind, now.Status, "reason", now.Reason, "message", now.Message)
		}
	}
}

// feed is the NodeProvider: it passes the node's changes to virtual-kubelet's controller.
type feed struct {
	ready chan struct{} // closed once cb is set
	cb    func(*corev1.Node)
}

var _ vknode.NodeProvider = (*feed)(nil)

func newFeed() *feed { return &feed{ready: make(chan struct{})} }

// Ping always succeeds: that the lower cluster is silent is said by the condition Ready, which could not be written
// if Ping failed. The lease is stopped where it is written (leases).
func (f *feed) Ping(ctx context.Context) error { return ctx.Err() }

// NotifyNodeStatus implements vknode.NodeProvider. cb may block until the controller has taken the change before.
func (f *feed) NotifyNodeStatus(_ context.Context, cb func(*corev1.Node)) {
	f.cb = cb
	close(f.ready)
}

// send hands a node on. It returns false when ctx ended first; the change is then left to nobody.
func (f *feed) send(ctx context.Context, node *corev1.Node) bool {
	sent := make(chan struct{})
	go func() {
		<-f.ready
		f.cb(node)
		close(sent)
	}()
	select {
	case <-ctx.Done():
		return false
	case <-sent:
		return true
	}
}

// ownNodes refuses to see Nodes that are not virtual nodes of ours, so that virtual-kubelet's controller, which
// writes to whatever Node has the name, never writes to another's.
type ownNodes struct{ corev1client.NodeInterface }

// Get implements corev1client.NodeInterface.
func (n ownNodes) Get(ctx context.Context, name string, options metav1.GetOptions) (*corev1.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeWriteTimeout)
	defer cancel()
	node, err := n.NodeInterface.Get(ctx, name, options)
	if err != nil {
		return nil, err
	}
	if err := owned(node, name); err != nil {
		return nil, err
	}
	disown(node)
	return node, nil
}

func owned(node *corev1.Node, name string) error {
	if node.Labels[keys.Cluster] == name {
		return nil
	}
	return fmt.Errorf("node %s exists and is not a virtual node (it has no label %s=%s): "+
		"rename the cluster's file or delete that Node", name, keys.Cluster, name)
}

// Patch implements corev1client.NodeInterface.
func (n ownNodes) Patch(ctx context.Context, name string, kind types.PatchType, data []byte, options metav1.PatchOptions,
	subresources ...string) (*corev1.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeWriteTimeout)
	defer cancel()
	return n.NodeInterface.Patch(ctx, name, kind, data, options, subresources...)
}
