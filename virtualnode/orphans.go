package virtualnode

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/virtualnode/orphans"
)

// largestBody is the most of a request's body that is read, in bytes.
const largestBody = 1 << 20

// orphanJSON is an orphan as GET /debug/orphans shows it: a lower pod, and the upper pod it stands for.
type orphanJSON struct {
	Cluster        string    `json:"cluster"`
	Namespace      string    `json:"namespace"`
	Name           string    `json:"name"`
	UID            types.UID `json:"uid"`
	UpperNamespace string    `json:"upperNamespace"`
	UpperName      string    `json:"upperName"`
	UpperUID       types.UID `json:"upperUid"`
	Finished       bool      `json:"finished"`
	Since          time.Time `json:"since"`
	Brake          bool      `json:"brake"` // nothing is collected in this cluster unasked
}

func describeOrphans(v *virtualNode, found []orphans.Orphan) []orphanJSON {
	brake := v.orphans.Brake() != ""
	list := make([]orphanJSON, 0, len(found))
	for _, o := range found {
		list = append(list, orphanJSON{
			Cluster: v.name, Namespace: o.Namespace, Name: o.Name, UID: o.UID, UpperNamespace: o.UpperNamespace,
			UpperName: o.UpperName, UpperUID: o.UpperUID, Finished: o.Finished, Since: o.Since, Brake: brake,
		})
	}
	return list
}

// listOrphans answers GET /debug/orphans.
func (s *server) listOrphans(w http.ResponseWriter, _ *http.Request) {
	list := []orphanJSON{}
	s.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		list = append(list, describeOrphans(s.nodes[name], s.nodes[name].orphans.Orphans())...)
	}
	s.mu.Unlock()
	answerOrphans(w, list)
}

// collectOrphans answers POST /v1/orphans/collect {"cluster": NAME}: all that are orphans now, and confirmed, go at once; and
// upper pods whose lower ones are missing fail, however many they are.
func (s *server) collectOrphans(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Cluster string `json:"cluster"`
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestBody))
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err != nil || request.Cluster == "" {
		serve.Error(w, http.StatusBadRequest, `the body is not of the form {"cluster": "NAME"}`)
		return
	}
	s.mu.Lock()
	v := s.nodes[request.Cluster]
	s.mu.Unlock()
	switch {
	case v == nil:
		serve.Error(w, http.StatusBadRequest, fmt.Sprintf("no cluster %q is served here: the clusters folder has no usable file of that name",
			request.Cluster))
	case !s.whole.answers():
		serve.Error(w, http.StatusConflict, "the upper cluster does not answer, so nobody knows what is an orphan: try again when it does")
	case !v.reachable():
		serve.Error(w, http.StatusConflict, fmt.Sprintf("cluster %s does not answer: try again when it does", v.name))
	default:
		v.pods.Believe(0)
		released := v.orphans.Release()
		for _, o := range released {
			v.pods.Look(o.UpperNamespace + "/" + o.UpperName)
		}
		v.log.Info("Orphans are collected because somebody asked for it", "count", len(released))
		answerOrphans(w, describeOrphans(v, released))
	}
}

// working lets requests through to the replica that holds the lease: the others know of no orphans.
func (s *server) working(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.election.Leads() {
			serve.Error(w, http.StatusServiceUnavailable,
				"this replica of virtualnode waits for its turn: ask the one that holds the lease tessera-virtualnode, or ask again")
			return
		}
		next(w, r)
	})
}

func answerOrphans(w http.ResponseWriter, list []orphanJSON) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"orphans": list}) // The client has gone if this fails.
}
