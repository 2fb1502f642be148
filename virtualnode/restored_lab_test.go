package virtualnode_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A lower cluster is restored from a backup that is older than some pods. Its watches say nothing from then on, and both parts
// notice; what the backup knows runs on as it was, and what it does not know is made anew.
func lowerRestored(o *outages) {
	cluster := o.lab.LowerName(1)
	backup, err := o.lab.BackUp(o.Context(), 1)
	if err != nil {
		o.Fatal(err)
	}
	o.eventually(func() error { return readyAgain(o.world, cluster) })
	o.workload("late", cluster, 2)
	late := o.replicas("late", cluster, 2)
	// The backup is older by more than what the new history will write in the next seconds.
	for i := range 1000 {
		change := []byte(fmt.Sprintf(`{"metadata":{"annotations":{"test":"%d"}}}`, i))
		if _, err := o.lower(1).CoreV1().Namespaces().Patch(o.Context(), "default", types.MergePatchType, change, metav1.PatchOptions{}); err != nil {
			o.Fatal(err)
		}
	}
	if err := backup.Restore(o.Context()); err != nil {
		o.Fatal(err)
	}
	begin := time.Now()
	var now map[types.UID]bool
	o.eventually(func() error {
		now = map[types.UID]bool{}
		for _, pod := range o.world.above("late") {
			if !late[pod.UID] && running(pod) {
				now[pod.UID] = true
			}
		}
		if len(now) != len(late) {
			return fmt.Errorf("%d of %d pods that the backup did not know run again", len(now), len(late))
		}
		return nil
	})
	o.Logf("pods that the backup did not know run again after %s", time.Since(begin).Round(100*time.Millisecond))
	for i := 1; i <= 2; i++ {
		patch(o.world, o.lower(1), "nodes", o.lab.NodeName(1, i), `{"spec":{"unschedulable":true}}`)
	}
	o.nodeUsable(cluster, "NoUsableNodes")
	o.eventually(func() error { return o.extenderSees(cluster, 0) })
	for i := 1; i <= 2; i++ {
		patch(o.world, o.lower(1), "nodes", o.lab.NodeName(1, i), `{"spec":{"unschedulable":null}}`)
	}
}

// extenderSees says as an error that the extender knows of another number of free CPUs.
func (w *world) extenderSees(cluster string, cpus int64) error {
	answer, err := http.Get(w.lab.ExtenderURL() + "/debug/clusters/" + cluster)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var view struct{ Free map[string]resource.Quantity }
	if err := json.NewDecoder(answer.Body).Decode(&view); err != nil {
		return err
	}
	if free := view.Free[string(corev1.ResourceCPU)]; free.Value() != cpus {
		return fmt.Errorf("the extender sees %s CPUs free in %s, want %d", free.String(), cluster, cpus)
	}
	return nil
}
