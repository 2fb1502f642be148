package extender

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// holdJSON is a hold as /v1/holds and /debug/holds show it.
type holdJSON struct {
	UID        types.UID         `json:"uid"`
	Owner      snapshot.Owner    `json:"owner"`
	Namespace  string            `json:"namespace"`
	Name       string            `json:"name"`
	Cluster    string            `json:"cluster"`
	Node       string            `json:"node"`
	State      snapshot.State    `json:"state"`
	Requests   map[string]string `json:"requests"`
	AgeSeconds float64           `json:"ageSeconds"`
}

func holdOf(h *snapshot.Hold, now time.Time) holdJSON {
	return holdJSON{
		UID: h.UID, Owner: h.Owner, Namespace: h.Namespace, Name: h.Name, Cluster: h.Cluster, Node: h.Node,
		State: h.State, Requests: h.Requests.Quantities(), AgeSeconds: seconds(now.Sub(h.Since)),
	}
}

func (e *Extender) getHold(c *gin.Context) {
	now := time.Now()
	e.mu.Lock()
	hold := e.pool.Hold(types.UID(c.Param("uid")))
	unsure := !e.ready || hold != nil && hold.Node == "" && e.usable(hold.Cluster, now) == keys.NotSynced
	var described holdJSON
	if hold != nil {
		described = holdOf(hold, now)
	}
	e.mu.Unlock()
	switch {
	case unsure: // A "no" would send the pod below without its hint.
		fail(c, http.StatusServiceUnavailable, text(keys.NotSynced))
	case hold == nil:
		fail(c, http.StatusNotFound, "no hold of that UID: the pod counts as usage already, or was never accepted")
	default:
		c.JSON(http.StatusOK, described)
	}
}

func (e *Extender) deleteHold(c *gin.Context) {
	e.mu.Lock()
	e.pool.Release(types.UID(c.Param("uid")))
	e.mu.Unlock()
	e.touch()
	c.Status(http.StatusNoContent)
}

func (e *Extender) debugHolds(c *gin.Context) {
	now := time.Now()
	list := []holdJSON{}
	e.mu.Lock()
	for _, hold := range e.pool.Holds() {
		list = append(list, holdOf(hold, now))
	}
	e.mu.Unlock()
	c.JSON(http.StatusOK, gin.H{"holds": list})
}
