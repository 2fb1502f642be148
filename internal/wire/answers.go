package wire

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Hold is a hold as /v1/holds and /debug/holds show it.
type Hold struct {
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

// Clusters answers GET /debug/clusters.
type Clusters struct {
	Clusters []Cluster `json:"clusters"`
}

// Cluster is a lower cluster as /debug/clusters shows it.
type Cluster struct {
	Name             string            `json:"name"`
	VirtualNode      string            `json:"virtualNode"`
	Synced           bool              `json:"synced"`
	Stale            bool              `json:"stale"`
	AgeSeconds       *float64          `json:"ageSeconds"` // null before the first contact
	Nodes            int               `json:"nodes"`
	SchedulableNodes int               `json:"schedulableNodes"`
	Pods             int               `json:"pods"`
	Allocatable      map[string]string `json:"allocatable"`
	Free             map[string]string `json:"free"`
	LargestHole      map[string]string `json:"largestHole"`
	Holds            int               `json:"holds"`
	UnaskedBinds     int               `json:"unaskedBinds"` // pods bound to its virtual nodes that the extender was not asked about
	LastUnaskedBind  string            `json:"lastUnaskedBind,omitempty"`
	Error            string            `json:"error,omitempty"`
	NodeList         []Node            `json:"nodeList,omitempty"`
}

// Node is a lower node as /debug/clusters/NAME shows it.
type Node struct {
	Name        string            `json:"name"`
	Ready       bool              `json:"ready"`
	Cordoned    bool              `json:"cordoned"`
	Taints      []corev1.Taint    `json:"taints"`
	Allocatable map[string]string `json:"allocatable"`
	Free        map[string]string `json:"free"`
	Held        map[string]string `json:"held"`
	Pods        int               `json:"pods"`
	Avoided     int               `json:"avoided"` // kinds of pods that its kubelet refused lately
}

// Explanation is what is known of a pod and the last answer about it, as /debug/pods/NS/NAME shows it.
type Explanation struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	UID       types.UID      `json:"uid"`
	Situation Situation      `json:"situation,omitempty"` // left out where the pod could not be read
	Why       string         `json:"why,omitempty"`       // in words, where the clusters' answers do not say it
	Decision  *seal.Decision `json:"decision,omitempty"`  // of admission
	When      *time.Time     `json:"when"`                // the scheduler asked last; null if it has not
	Chosen    string         `json:"chosen"`              // virtual node; empty if none took the pod
	NextRetry *time.Time     `json:"nextRetry"`           // at the latest, when nothing wakes it before; null if one took it
	Clusters  []Verdict      `json:"clusters"`
}

// Situation is where a pod stands.
type Situation string

// The situations of pods.
const (
	NotOurs  Situation = "NotOurs"  // Tessera has nothing to do with it
	Gated    Situation = "Gated"    // no scheduler looks at it yet
	NotAsked Situation = "NotAsked" // it waits, and the scheduler has not asked about it
	Asked    Situation = "Asked"    // it waits, and the scheduler has asked
	Bound    Situation = "Bound"    // it has a node
	Finished Situation = "Finished" // it has ended
)

// Verdict is what an Explanation says of one cluster.
type Verdict struct {
	Name        string            `json:"name"`
	VirtualNode string            `json:"virtualNode"`
	Fits        bool              `json:"fits"`
	Reason      keys.Reason       `json:"reason"`
	Message     string            `json:"message"`
	Score       int64             `json:"score"`
	Preference  int64             `json:"preference,omitempty"` // what decided before tightness; left out where nobody prefers anything
	BestNode    string            `json:"bestNode"`
	Short       map[string]string `json:"short"`
}

// Whatif answers POST /debug/whatif.
type Whatif struct {
	Replicas int             `json:"replicas"`
	Fitting  int             `json:"fitting"` // how many of the replicas the clusters take together
	Clusters []WhatifCluster `json:"clusters"`
}

// WhatifCluster is what a Whatif says of one cluster.
type WhatifCluster struct {
	Name        string            `json:"name"`
	VirtualNode string            `json:"virtualNode"`
	Fits        bool              `json:"fits"`
	Node        string            `json:"node"`
	Reason      keys.Reason       `json:"reason"`
	Short       map[string]string `json:"short"`
	Replicas    int               `json:"replicas"` // how many the cluster takes alone, at most those asked for
}
