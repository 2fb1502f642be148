package extender

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

func holdOf(h *snapshot.Hold, now time.Time) wire.Hold {
	return wire.Hold{
		UID: h.UID, Owner: h.Owner, Namespace: h.Namespace, Name: h.Name, Cluster: h.Cluster, Node: h.Node,
		State: h.State, Requests: h.Requests.Quantities(), AgeSeconds: seconds(now.Sub(h.Since)),
	}
}

func (e *Extender) getHold(c *gin.Context) {
	now := time.Now()
	e.mu.Lock()
	hold := e.pool.Hold(types.UID(c.Param("uid")))
	unsure := !e.ready.Load() || hold != nil && hold.Node == "" && e.usable(hold.Cluster, now) == keys.NotSynced
	var described wire.Hold
	if hold != nil {
		described = holdOf(hold, now)
	}
	e.mu.Unlock()
	switch {
	case unsure: // A "no" would send the pod below without its hint.
		fail(c, http.StatusServiceUnavailable, text(keys.NotSynced))
	case hold == nil:
		fail(c, http.StatusNotFound, "no hold of that UID: the pod counts as usage already or was never accepted; "+
			"a reservation has passed to its pod or is over")
	default:
		c.JSON(http.StatusOK, described)
	}
}

func (e *Extender) deleteHold(c *gin.Context) {
	e.mu.Lock()
	e.pool.Withdraw(types.UID(c.Param("uid")))
	e.mu.Unlock()
	e.touch()
	c.Status(http.StatusNoContent)
}

func (e *Extender) debugHolds(c *gin.Context) {
	now := time.Now()
	list := []wire.Hold{}
	e.mu.Lock()
	for _, hold := range e.pool.Holds() {
		list = append(list, holdOf(hold, now))
	}
	e.mu.Unlock()
	c.JSON(http.StatusOK, gin.H{"holds": list})
}

// postHold reserves room: 201 with the hold, 404 for a cluster nobody knows, 409 where there is no room or no view.
func (e *Extender) postHold(c *gin.Context) {
	request, ok := decoded(c, wire.ReadHold)
	if !ok {
		return
	}
	now := time.Now()
	node := e.upper.virtualNode(e.virtualNodeOf(request.Cluster))
	var below *snapshot.Pod
	if node != nil {
		var err error
		if below, err = e.compile(request.Pod, node); err != nil {
			fail(c, http.StatusBadRequest, err.Error())
			return
		}
	}
	hold, status, err := e.reserve(now, request, below)
	if err != nil {
		fail(c, status, err.Error())
		return
	}
	e.log.Info("Room is reserved", "uid", hold.UID, "namespace", hold.Owner.Namespace, "owner", hold.Owner.Name,
		"cluster", hold.Cluster, "node", hold.Node)
	c.JSON(status, hold)
}

// reserve holds room for a pod, nil where no virtual node shows the cluster. What only the exact path knows, of claims and
// devices, is asked when the pod itself comes. The error is for the caller.
func (e *Extender) reserve(now time.Time, r *wire.HoldRequest, pod *snapshot.Pod) (hold wire.Hold, status int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.clusters[r.Cluster] == nil {
		return hold, http.StatusNotFound, fmt.Errorf("cluster: no cluster %q: the clusters folder has no file of that name", r.Cluster)
	}
	pod = e.pool.Larger(r.Cluster, *r.Owner, pod)
	verdict := snapshot.Verdict{Reason: e.usable(r.Cluster, now)}
	switch {
	case verdict.Reason != "":
	case pod == nil:
		verdict.Reason = keys.NotSynced
	case e.fencedOff(r):
		verdict.Reason = keys.Fenced
	case e.avoid.has(*r.Owner, r.Cluster):
		verdict.Reason = keys.Avoided
	case e.pool.Conflicts(r.Cluster, pod, ""):
		verdict.Reason = keys.NameConflict
	case e.overQuota(r.Cluster, pod, ""):
		verdict.Reason = keys.Quota
	case r.Node == "":
		verdict = e.pool.Judge(r.Cluster, pod, "")
	case e.pool.Snapshot(r.Cluster).Node(r.Node) == nil:
		return hold, http.StatusConflict, fmt.Errorf("node: no node %q in cluster %s", r.Node, r.Cluster)
	default:
		verdict = e.pool.JudgeNode(r.Cluster, r.Node, pod, "")
	}
	if verdict = e.pool.Spare(verdict, pod, ""); verdict.Fits {
		verdict = e.allowedAcross(r, verdict, pod)
	}
	if !verdict.Fits {
		return hold, http.StatusConflict, errors.New(text(verdict.Reason))
	}
	until := now.Add(time.Duration(r.TTLSeconds) * time.Second)
	info := snapshot.Info{Namespace: r.Owner.Namespace, Name: r.Pod.Name, Owner: *r.Owner}
	return holdOf(e.pool.Reserve(now, uuid.NewUUID(), info, pod, verdict, until), now), http.StatusCreated, nil
}
