package extender

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/internal/wire"
)

func (e *Extender) debugClusters(c *gin.Context) {
	now := time.Now()
	list := []wire.Cluster{}
	e.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(e.clusters)) {
		list = append(list, e.describe(name, now))
	}
	e.mu.Unlock()
	c.JSON(http.StatusOK, wire.Clusters{Clusters: list})
}

func (e *Extender) debugCluster(c *gin.Context) {
	name := c.Param("name")
	described, found := e.describeWhole(name)
	if !found {
		fail(c, http.StatusNotFound, fmt.Sprintf("no cluster %q: the clusters folder has no usable file of that name", name))
		return
	}
	c.JSON(http.StatusOK, described)
}

// describeWhole describes a cluster with its nodes.
func (e *Extender) describeWhole(name string) (described wire.Cluster, found bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.clusters[name] == nil {
		return described, false
	}
	described = e.describe(name, time.Now())
	described.NodeList = []wire.Node{}
	if s := e.pool.Snapshot(name); s != nil {
		refusals := e.pool.Refusals(name)
		for _, node := range s.Nodes {
			shown := e.describeNode(name, node)
			shown.Avoided = refusals[node.Name()]
			described.NodeList = append(described.NodeList, shown)
		}
	}
	return described, true
}

// describe sums a cluster up. The caller holds e.mu.
func (e *Extender) describe(name string, now time.Time) wire.Cluster {
	state := e.clusters[name]
	described := wire.Cluster{Name: name, Error: state.broken, VirtualNode: e.virtualNodeOf(name)}
	if state.watch != nil {
		health := state.watch.Health()
		described.Synced = health.Synced
		if !health.Contact.IsZero() {
			age := now.Sub(health.Contact)
			described.AgeSeconds = new(float64)
			*described.AgeSeconds = seconds(age)
			described.Stale = age > e.config.MaxViewAge.Duration
		}
		if health.Err != nil {
			described.Error = health.Err.Error()
		}
	}
	for _, hold := range e.pool.Holds() {
		if hold.Cluster == name {
			described.Holds++
		}
	}
	if unasked := e.unaskedBinds[name]; unasked != nil {
		described.UnaskedBinds, described.LastUnaskedBind = unasked.count, unasked.last
	}
	s := e.partOf(name)
	for _, node := range s.Nodes {
		if node.Usable() {
			described.SchedulableNodes++
		}
	}
	described.Nodes, described.Pods = len(s.Nodes), s.Pods
	described.Allocatable, described.Free = s.Capacity().Quantities(), s.Free().Quantities()
	described.LargestHole = s.LargestHole().Quantities()
	return described
}

// partOf is what the virtual node of a cluster stands for of its snapshot: the nodes that take part. Where the cluster has
// several virtual nodes, or none, it is all of it. The caller holds e.mu.
func (e *Extender) partOf(name string) *snapshot.Snapshot {
	s := e.pool.Snapshot(name)
	if s == nil {
		return snapshot.New(snapshot.Content{Cluster: name})
	}
	nodes := slices.DeleteFunc(e.upper.virtualNodes(), func(node *corev1.Node) bool { return node.Labels[keys.Cluster] != name })
	if len(nodes) != 1 {
		return s
	}
	target, err := translate.TargetOf(nodes[0], e.identity)
	if err != nil {
		return s // Every answer about a pod says so.
	}
	part, err := lower.PartOf(target.Rules)
	if err != nil {
		return s
	}
	return s.Select(part)
}

func (e *Extender) describeNode(cluster string, node *snapshot.Node) wire.Node {
	taints := node.Object.Spec.Taints
	if taints == nil {
		taints = []corev1.Taint{}
	}
	return wire.Node{
		Name: node.Name(), Ready: node.Ready, Cordoned: node.Object.Spec.Unschedulable, Taints: taints,
		Allocatable: node.Allocatable.Quantities(), Free: node.Free().Quantities(),
		Held: e.pool.Held(cluster, node.Name()).Quantities(), Pods: int(node.Used.Pods),
	}
}

// virtualNodeOf returns the name of the virtual node of a cluster, the first where there are several.
func (e *Extender) virtualNodeOf(cluster string) string {
	for _, node := range e.upper.virtualNodes() {
		if node.Labels[keys.Cluster] == cluster {
			return node.Name
		}
	}
	return ""
}

// flush is how long kube-scheduler leaves an unschedulable pod alone when nothing wakes it.
const flush = 5 * time.Minute

// debugPod answers for every pod: what the clusters said when the scheduler asked last, or why it has not asked.
func (e *Extender) debugPod(c *gin.Context) {
	namespace, name := c.Param("namespace"), c.Param("name")
	pod, space := e.lookUp(c.Request.Context(), namespace, name)
	var last *record
	if found, ok := e.verdicts.Get(namespace + "/" + name); ok {
		if last = found.(*record); pod != nil && pod.UID != last.uid {
			last = nil // Of an older pod of that name.
		}
	}
	if pod == nil && last == nil {
		fail(c, http.StatusNotFound, fmt.Sprintf("there is no pod %s/%s", namespace, name))
		return
	}
	described := wire.Explanation{Namespace: namespace, Name: name, Clusters: []wire.Verdict{}}
	if pod != nil {
		described.UID = pod.UID
		described.Situation, described.Why = situation(pod, space, e.upper.virtualNodes(), last != nil)
		if decision, told := seal.DecisionOf(pod); told {
			described.Decision = &decision
		}
	}
	if last != nil {
		described.UID, described.When, described.Chosen = last.uid, &last.when, last.chosen
		if last.chosen == "" && (pod == nil || pod.Spec.NodeName == "") {
			retry := last.when.Add(flush)
			described.NextRetry = &retry
		}
		for _, v := range last.verdicts {
			described.Clusters = append(described.Clusters, v.json())
		}
	}
	c.JSON(http.StatusOK, described)
}

func (v verdict) json() wire.Verdict {
	described := wire.Verdict{
		Name: v.Cluster, VirtualNode: v.node.Name, Fits: v.Fits, Reason: v.Reason, Score: v.score, Preference: v.Preference, BestNode: v.Node,
		Short: v.Short.Quantities(),
	}
	if !v.Fits {
		described.Message = texts[v.Reason]
	}
	return described
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
