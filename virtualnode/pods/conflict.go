package pods

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// avoidFor is how long the pods of an owner keep away from a cluster in which a name of theirs is taken.
const avoidFor = 10 * time.Minute

// giveWay sends a pod whose name is taken below to another cluster: its owner avoids this one, then the pod is evicted. It
// never ran, so it has nothing to lose. A pod without a controller would not come back, and without an extender it would
// come back here: those stay as they are. refusal is what they are tried again for.
func (r *Reconciler) giveWay(ctx context.Context, upper *corev1.Pod, refusal error) error {
	if r.Avoid == nil || metav1.GetControllerOf(upper) == nil || r.storms.take(upper) > 0 {
		return refusal
	}
	owner := snapshot.OwnerOf(upper)
	err := r.Avoid(ctx, wire.AvoidRequest{
		Owner: &owner, Cluster: r.Name, Seconds: int(avoidFor.Seconds()), Reason: string(keys.NameConflict),
	})
	if err == nil {
		err = pair.IgnoreGone(r.Upper.Pods(upper.Namespace).EvictV1(ctx, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: upper.Namespace, Name: upper.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(upper.UID))},
		}))
	}
	if err != nil {
		r.storms.giveBack(upper)
		return fmt.Errorf("sending the pod elsewhere: %w", err)
	}
	r.Log.Info("Name is taken below, the pod goes elsewhere", "pod", pair.KeyOf(upper), "uid", upper.UID)
	return nil
}
