package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	vknode "github.com/virtual-kubelet/virtual-kubelet/node"
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
	settlePatience    = 5 * time.Second        // for the first look at a cluster whose node stood as Ready
	registerRetry     = 5 * time.Second
	heartbeatInterval = 5 * time.Minute // of the status; the lease beats every 10 s
	nodeWriteTimeout  = 10 * time.Second
)

// Keeper registers one virtual node, renews its lease and writes its status whenever that changes.
type Keeper struct {
	name    string
	client  kubernetes.Interface
	log     *slog.Logger
	changes prometheus.Counter
	// observe returns the facts of the moment. before is filled in by the keeper.
	observe func() Facts
	// dirty has an element when something changed since the status was last made.
	dirty chan struct{}
}

// NewKeeper returns a keeper that does nothing before Run. changes counts the changes it writes; observe returns the facts of the moment.
func NewKeeper(name string, client kubernetes.Interface, log *slog.Logger, changes prometheus.Counter, observe func() Facts) *Keeper {
	return &Keeper{name: name, client: client, log: log, changes: changes, observe: observe, dirty: make(chan struct{}, 1)}
}

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
			k.log.Error("Virtual node cannot be kept, trying again", "err", err)
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
	facts := k.settle(ctx, before)
	node := facts.node(time.Now())
	feed := newFeed()
	nodes := ownNodes{k.client.CoreV1().Nodes()}
	controller, err := vknode.NewNodeController(feed, node.DeepCopy(), nodes,
		vknode.WithNodeEnableLeaseV1(k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease), vknode.DefaultLeaseDuration),
		vknode.WithNodeStatusUpdateInterval(heartbeatInterval),
		vknode.WithNodeStatusUpdateErrorHandler(func(ctx context.Context, err error) error { return k.mend(ctx, nodes, err) }),
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
			k.log.Info("Virtual node is registered")
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
	node, err := ownNodes{k.client.CoreV1().Nodes()}.Get(ctx, k.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading node %s: %w", k.name, err)
	}
	tainted := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == keys.VirtualTaint })
	if tainted {
		return node, nil
	}
	after := node.DeepCopy()
	after.Spec.Taints = append(after.Spec.Taints, virtualTaint)
	node, err = k.client.CoreV1().Nodes().Update(ctx, after, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("putting the taint back on node %s: %w", k.name, err)
	}
	return node, nil
}

// settle returns the first facts. Where the Node stands as Ready it waits a moment for the lower cluster to be listed:
// a restart of this process is no reason to say otherwise, which would make the pods of the node NotReady.
func (k *Keeper) settle(ctx context.Context, before *corev1.Node) Facts {
	patience := time.After(settlePatience)
	for {
		facts := k.observe()
		facts.before = before
		stood := facts.readyBefore()
		if stood == nil || stood.Status != corev1.ConditionTrue || facts.Broken != "" || facts.Ready(time.Now()).Status == corev1.ConditionTrue {
			return facts
		}
		select {
		case <-ctx.Done():
			return facts
		case <-patience:
			return facts
		case <-k.dirty:
		}
	}
}

// mend makes the Node anew if somebody has deleted it while its cluster is still served.
func (k *Keeper) mend(ctx context.Context, nodes corev1client.NodeInterface, cause error) error {
	if !apierrors.IsNotFound(cause) {
		return cause
	}
	k.log.Warn("Virtual node was deleted, registering it again")
	facts := k.observe()
	_, err := nodes.Create(ctx, facts.node(time.Now()), metav1.CreateOptions{})
	return err
}

// publish hands every change of the node on, at most one per publishInterval; the last one always.
func (k *Keeper) publish(ctx context.Context, feed *feed, last *corev1.Node) {
	k.Touch() // For what happened while the node was being registered.
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.dirty:
		}
		facts := k.observe()
		facts.before = last
		if node := facts.node(time.Now()); !equality.Semantic.DeepEqual(node, last) {
			k.changes.Inc()
			k.tell(last, node)
			if !feed.send(ctx, node.DeepCopy()) {
				return
			}
			last = node
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(publishInterval):
		}
	}
}

// tell logs what becomes of the node's readiness.
func (k *Keeper) tell(last, node *corev1.Node) {
	before, now := last.Status.Conditions[0], node.Status.Conditions[0]
	if before.Status != now.Status || before.Reason != now.Reason {
		k.log.Info("Virtual node changes", "ready", now.Status, "reason", now.Reason, "message", now.Message)
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
// if Ping failed. The lease says that this process lives.
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
	if err == nil && node.Labels[keys.Cluster] != name {
		return nil, fmt.Errorf("node %s exists and is not a virtual node (it has no label %s=%s): "+
			"rename the cluster's file or delete that Node", name, keys.Cluster, name)
	}
	return node, err
}

// Patch implements corev1client.NodeInterface.
func (n ownNodes) Patch(ctx context.Context, name string, kind types.PatchType, data []byte, options metav1.PatchOptions,
	subresources ...string) (*corev1.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeWriteTimeout)
	defer cancel()
	return n.NodeInterface.Patch(ctx, name, kind, data, options, subresources...)
}
