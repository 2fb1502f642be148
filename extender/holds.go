package extender

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation"

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
	list := []holdJSON{}
	e.mu.Lock()
	for _, hold := range e.pool.Holds() {
		list = append(list, holdOf(hold, now))
	}
	e.mu.Unlock()
	c.JSON(http.StatusOK, gin.H{"holds": list})
}

// holdRequest is the body of POST /v1/holds: room for the next pod of an owner, which may not exist yet.
type holdRequest struct {
	// Exactly one of Pod and Requests. The pod is one of the owner's as the upper API server shows it.
	Pod      *corev1.Pod         `json:"pod,omitempty"`
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// Owner may be left out beside Pod, and its UID always.
	Owner   *snapshot.Owner `json:"owner,omitempty"`
	Cluster string          `json:"cluster"`
	// Node is the lower node; empty: the tightest that takes the pod.
	Node       string `json:"node,omitempty"`
	TTLSeconds int    `json:"ttlSeconds"`
}

// longestReservation bounds ttlSeconds: room that is needed for longer belongs to a pod.
const longestReservation = time.Hour

// mostReserved is the most of any one resource, in bytes or whole units.
var mostReserved = resource.MustParse("1Pi")

// postHold reserves room: 201 with the hold, 404 for a cluster nobody knows, 409 where there is no room or no view.
func (e *Extender) postHold(c *gin.Context) {
	var body json.RawMessage
	if err := decode(c, &body); err != nil {
		fail(c, http.StatusBadRequest, err.Error())
		return
	}
	request, err := parseHoldRequest(body)
	if err != nil {
		fail(c, http.StatusBadRequest, err.Error())
		return
	}
	now := time.Now()
	node := e.upper.virtualNode(e.virtualNodeOf(request.Cluster))
	var below *snapshot.Pod
	if node != nil {
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
	e.log.Info("Room is reserved", "uid", hold.UID, "owner", hold.Owner.Namespace+"/"+hold.Owner.Name, "cluster", hold.Cluster, "node", hold.Node)
	c.JSON(status, hold)
}

// reserve holds room for a pod, nil where no virtual node shows the cluster. What only the exact path knows, of claims and
// devices, is asked when the pod itself comes. The error is for the caller.
func (e *Extender) reserve(now time.Time, r *holdRequest, pod *snapshot.Pod) (hold holdJSON, status int, err error) {
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
	case e.avoid.has(*r.Owner, r.Cluster):
		verdict.Reason = keys.Avoided
	case e.overQuota(r.Cluster, pod, ""):
		verdict.Reason = keys.Quota
	case r.Node == "":
		verdict = e.pool.Judge(r.Cluster, pod, "")
	case e.pool.Snapshot(r.Cluster).Node(r.Node) == nil:
		return hold, http.StatusConflict, fmt.Errorf("node: no node %q in cluster %s", r.Node, r.Cluster)
	default:
		verdict = e.pool.JudgeNode(r.Cluster, r.Node, pod, "")
	}
	if !verdict.Fits {
		return hold, http.StatusConflict, errors.New(text(verdict.Reason))
	}
	until := now.Add(time.Duration(r.TTLSeconds) * time.Second)
	info := snapshot.Info{Namespace: r.Owner.Namespace, Name: r.Pod.Name, Owner: *r.Owner}
	return holdOf(e.pool.Reserve(now, uuid.NewUUID(), info, pod, verdict, until), now), http.StatusCreated, nil
}

// parseHoldRequest reads and checks a body. Pod and Owner of the result are set.
func parseHoldRequest(body []byte) (*holdRequest, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	r := &holdRequest{}
	if err := decoder.Decode(r); err != nil {
		return nil, fmt.Errorf("reading body: %w", err)
	}
	switch {
	case (r.Pod == nil) == (r.Requests == nil):
		return nil, errors.New("exactly one of pod and requests is needed")
	case r.Pod != nil && r.Owner == nil:
		owner := snapshot.OwnerOf(r.Pod)
		r.Owner = &owner
	case r.Pod == nil:
		r.Pod = &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "requests", Resources: corev1.ResourceRequirements{Requests: r.Requests}},
		}}}
	}
	switch {
	case r.Owner == nil || r.Owner.Kind == "" || r.Owner.Namespace == "" || r.Owner.Name == "":
		return nil, errors.New("owner: kind, namespace and name are needed: they say whose next pod gets the room")
	case r.Cluster == "":
		return nil, errors.New("cluster: empty: name the cluster to hold room in")
	case r.TTLSeconds < 1 || r.TTLSeconds > int(longestReservation.Seconds()):
		return nil, fmt.Errorf("ttlSeconds: %d is not within 1 and %d", r.TTLSeconds, int(longestReservation.Seconds()))
	}
	r.Pod.Namespace = r.Owner.Namespace
	return r, checkAmounts(&r.Pod.Spec)
}

// checkAmounts refuses what no API server would store. Of each resource all requests together stay within bounds.
func checkAmounts(spec *corev1.PodSpec) error {
	lists := []corev1.ResourceList{spec.Overhead}
	if spec.Resources != nil {
		lists = append(lists, spec.Resources.Requests)
	}
	for _, container := range slices.Concat(spec.InitContainers, spec.Containers) {
		lists = append(lists, container.Resources.Requests)
	}
	sums := map[corev1.ResourceName]resource.Quantity{}
	for _, list := range lists {
		for name, amount := range list {
			if errs := validation.IsQualifiedName(string(name)); len(errs) > 0 || name == corev1.ResourcePods {
				return fmt.Errorf("requests: %q is not the name of a resource that a pod asks for", name)
			}
			sum := sums[name]
			sum.Add(amount)
			if amount.Sign() < 0 || sum.Cmp(mostReserved) > 0 {
				return fmt.Errorf("requests: %s of %s is not within 0 and %s", sum.String(), name, mostReserved.String())
			}
			sums[name] = sum
		}
	}
	return nil
}
