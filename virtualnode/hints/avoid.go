package hints

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Avoid has the extender keep the pods of the owner of pod away from a cluster.
func (h *Hints) Avoid(ctx context.Context, pod *corev1.Pod, cluster, reason string, until time.Duration) error {
	body, err := json.Marshal(map[string]any{
		"owner": snapshot.OwnerOf(pod), "cluster": cluster, "seconds": int(until.Seconds()), "reason": reason,
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
