package extender

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// eventRefused is the reason of the event on a pod that waits because no cluster takes it.
const eventRefused = "NoClusterTakesIt"

// refusedEvery is how often one pod is told, though the clusters' reasons change.
const refusedEvery = 5 * time.Minute

// lasting are the reasons that no room and no other pod's end will change: somebody has to do something about them.
var lasting = []keys.Reason{
	keys.RefusedBelow, keys.RuntimeClass, keys.PriorityClass, keys.NamespaceEnding, keys.NotAllowed, keys.NameConflict, keys.Quota,
	keys.NotScheduled, keys.Gated, keys.OtherCluster, keys.Fenced,
}

// tellRefused makes an event on a pod that every cluster refuses, some of them for good: which ones, and why. kube-scheduler's own
// words count reasons and name nobody.
func (e *Extender) tellRefused(pod *corev1.Pod, verdicts []verdict) {
	if pod.UID == "" || !slices.ContainsFunc(verdicts, func(v verdict) bool { return slices.Contains(lasting, v.Reason) }) ||
		slices.ContainsFunc(verdicts, func(v verdict) bool { return v.Fits }) {
		return
	}
	if e.refused.Add(string(pod.UID), nil, refusedEvery) != nil {
		return // Told a while ago.
	}
	e.events.Event(pod, corev1.EventTypeWarning, eventRefused, byReason(verdicts))
}

// byReason names the clusters of refusals by reason, in a fixed order.
func byReason(verdicts []verdict) string {
	clusters := map[keys.Reason][]string{}
	for _, v := range verdicts {
		clusters[v.Reason] = append(clusters[v.Reason], v.node.Name)
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(clusters)) {
		names := clusters[reason]
		slices.Sort(names)
		const most = 10
		more := ""
		if len(names) > most {
			names, more = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
		}
		parts = append(parts, fmt.Sprintf("%s (%s): %s%s", reason, texts[reason], strings.Join(names, ", "), more))
	}
	return "No lower cluster takes the pod. " + strings.Join(parts, "; ")
}
