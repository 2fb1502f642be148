package exact

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
)

// preferring are the Score plugins that read what pods prefer. The others of the default profile look at how full nodes are, at images
// and at devices.
var preferring = []string{names.TaintToleration, names.NodeAffinity, names.InterPodAffinity, names.PodTopologySpread}

// Score asks the plugins of preferring about nodes that take the pod, and returns the sum of what they give each, weighted.
func (c *Cluster) Score(ctx context.Context, pod *corev1.Pod, nodes []string) (totals map[string]int64, err error) {
	q, err := c.ask(ctx, pod)
	if err != nil {
		return nil, err
	}
	var infos []fwk.NodeInfo
	for _, name := range nodes {
		info, err := c.snapshot.Get(name)
		if err != nil {
			return nil, fmt.Errorf("finding node %s: %w", name, err)
		}
		infos = append(infos, info)
	}
	if status := c.fw.RunPreScorePlugins(quiet(ctx), q.state, q.pod, infos); !status.IsSuccess() {
		return nil, fmt.Errorf("preparing scores: %w", status.AsError())
	}
	scored, status := c.fw.RunScorePlugins(quiet(ctx), q.state, q.pod, infos)
	if !status.IsSuccess() {
		return nil, fmt.Errorf("scoring: %w", status.AsError())
	}
	totals = map[string]int64{}
	for _, node := range scored {
		totals[node.Name] += 0
		for _, score := range node.Scores {
			for _, name := range preferring {
				if score.Name == name {
					totals[node.Name] += score.Score
				}
			}
		}
	}
	return totals, nil
}
