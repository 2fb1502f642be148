package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/tessera-k8s/tessera/admission/mutate"
	"github.com/tessera-k8s/tessera/internal/serve"
)

// maxBody bounds an AdmissionReview, in bytes. An API server takes requests of 3 MiB and may send the object twice.
const maxBody = 8 << 20

// tooLarge is the result of a request that no review was made of, because of its size.
const tooLarge mutate.Result = "tooLarge"

// webhook answers AdmissionReviews. Whatever is no review that it understands gets a 4xx, upon which the API server
// does as the failurePolicy of the webhook says.
func webhook(log *slog.Logger, metrics *metrics, path string, decide mutate.Change) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		result := answer(w, r, log.With("path", path), decide)
		metrics.requests.WithLabelValues(path, string(result)).Inc()
		metrics.duration.WithLabelValues(path).Observe(time.Since(start).Seconds())
	})
}

func answer(w http.ResponseWriter, r *http.Request, log *slog.Logger, decide mutate.Change) mutate.Result {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if limit := (*http.MaxBytesError)(nil); errors.As(err, &limit) {
		serve.Error(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody))
		return tooLarge
	}
	if err != nil {
		serve.Error(w, http.StatusBadRequest, fmt.Sprintf("reading the body: %v", err))
		return mutate.Malformed
	}
	response, result, err := mutate.Review(body, decide)
	if err != nil {
		log.Warn("Refused a malformed review", "err", err)
		serve.Error(w, http.StatusBadRequest, err.Error())
		return result
	}
	log.Debug("Answered", "uid", response.Response.UID, "result", result)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(response); err != nil {
		log.Warn("Sending the answer failed", "err", err)
	}
	return result
}
