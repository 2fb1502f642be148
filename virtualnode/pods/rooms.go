package pods

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/virtualnode/hints"
	"github.com/tessera-k8s/tessera/virtualnode/pods/down"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
)

// The rooms that a reconciler works with. They keep nothing: what each needs is in the Setup, what it remembers of a pod in
// the pod's memory.

func (r *Reconciler) hints() hints.Giver {
	return hints.Giver{
		Cluster: r.Name, Hints: r.Hints, Lower: r.Lower, Known: r.Known(), Log: r.Log,
		Count: func(mode hints.Mode, result string) { r.Metrics.hint(r.Name, mode, result) },
	}
}

func (r *Reconciler) reports() up.Reports {
	return up.Reports{
		Name: r.Name, ShowAddresses: r.ShowAddresses, Reachable: r.Reachable,
		OnLost: r.OnLost, DefaultToleration: r.DefaultToleration, Upper: r.Upper, Events: r.Events,
		Count: func(err error) { r.Metrics.status(r.Name, err) }, Wrote: r.wrote,
	}
}

func (r *Reconciler) changes() down.Changes {
	return down.Changes{Name: r.Name, Target: r.Target, Lower: r.Lower, Events: r.Events}
}

// report carries the status of a lower pod up, and what its cluster says against its newest size.
func (r *Reconciler) report(ctx context.Context, upper, lower *corev1.Pod, memory *memory) (again time.Duration, err error) {
	text, since := memory.down.RefusedSize()
	why, _ := unplaced(upper, lower, failure{}, time.Now())
	r.placed(upper, lower, why)
	return r.reports().Report(ctx, upper, lower, up.RefusedSize{Text: text, Since: since}, why, &memory.up)
}
