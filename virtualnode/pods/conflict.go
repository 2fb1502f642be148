package pods

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// avoidFor is how long the pods of an owner keep away from a cluster in which a name of theirs is taken.
const avoidFor = 10 * time.Minute

// giveWay sends a pod whose name is taken below to another cluster: its owner avoids this one, then the pod is evicted. It
// never ran, so it has nothing to lose. A pod without a controller would not come back, and without an extender it would
// come back here: those stay as they are. refusal is what they are tried again for.
func (r *Reconciler) giveWay(ctx context.Context, upper *corev1.Pod, refusal error) error {
	if r.Hints == nil || metav1.GetControllerOf(upper) == nil || r.storms.take(upper) > 0 {
		return refusal
	}
	err := r.Hints.avoid(ctx, upper, r.Name, string(keys.NameConflict))
	if err == nil {
		err = gone(r.Upper.Pods(upper.Namespace).EvictV1(ctx, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: upper.Namespace, Name: upper.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(upper.UID))},
		}))
	}
	if err != nil {
		r.storms.giveBack(upper)
		return fmt.Errorf("sending the pod elsewhere: %w", err)
	}
	r.Log.Info("Name is taken below, the pod goes elsewhere", "pod", KeyOf(upper), "uid", upper.UID)
	return nil
}

// avoid has the extender keep the pods of the owner of pod away from a cluster.
func (h *Hints) avoid(ctx context.Context, pod *corev1.Pod, cluster, reason string) error {
	body, err := json.Marshal(map[string]any{
		"owner": snapshot.OwnerOf(pod), "cluster": cluster, "seconds": int(avoidFor.Seconds()), "reason": reason,
	})
	if err != nil {
		return fmt.Errorf("asking to avoid the cluster: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/v1/avoid", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking to avoid the cluster: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := h.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking to avoid the cluster: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)); answer.StatusCode != http.StatusNoContent {
		return fmt.Errorf("asking to avoid the cluster: the extender answered %s: %s", answer.Status, text)
	}
	return nil
}
