package extender

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/wire"
)

// mostReplicas bounds the work of one question.
const mostReplicas = 100_000

// debugWhatif says where a pod would go, without a hold. The pod is taken as it would be above; its own name and
// UID do not matter.
func (e *Extender) debugWhatif(c *gin.Context) {
	replicas, err := strconv.Atoi(c.DefaultQuery("replicas", "1"))
	if err != nil || replicas < 1 || replicas > mostReplicas {
		fail(c, http.StatusBadRequest, fmt.Sprintf("replicas: %q is not a number from 1 to %d", c.Query("replicas"), mostReplicas))
		return
	}
	pod, ok := decoded(c, wire.ReadPod)
	if !ok {
		return
	}
	pod.UID = ""
	c.JSON(http.StatusOK, e.whatif(pod, replicas))
}

func (e *Extender) whatif(pod *corev1.Pod, replicas int) wire.Whatif {
	nodes := e.upper.virtualNodes()
	pods := e.compileAll(pod, nodes)
	result := wire.Whatif{Replicas: replicas, Clusters: []wire.WhatifCluster{}}
	e.mu.Lock()
	defer e.mu.Unlock()
	verdicts := e.judge(time.Now(), pod, nodes, pods)
	across := e.replicasAcross(pod, nodes, pods, verdicts, replicas)
	for _, v := range verdicts {
		described := wire.WhatifCluster{
			Name: v.Cluster, VirtualNode: v.node.Name, Fits: v.Fits, Node: v.Node, Reason: v.Reason, Short: v.Short.Quantities(),
		}
		switch {
		case across != nil:
			described.Replicas = across[v.node.Name]
		case v.Fits:
			described.Replicas = e.pool.Replicas(v.Cluster, v.pod, replicas)
		}
		result.Fitting = min(replicas, result.Fitting+described.Replicas)
		result.Clusters = append(result.Clusters, described)
	}
	return result
}
