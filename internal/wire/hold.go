package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// HoldRequest is the body of POST /v1/holds: room for the next pod of an owner, which may not exist yet.
type HoldRequest struct {
	// Exactly one of Pod and Requests. The pod is one of the owner's as the upper API server shows it.
	Pod      *corev1.Pod         `json:"pod,omitempty"`
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// Owner may be left out beside Pod, and its UID always.
	Owner   *snapshot.Owner `json:"owner,omitempty"`
	Cluster string          `json:"cluster"`
	// Node is the lower node; empty: the tightest that takes the pod.
	Node       string `json:"node,omitempty"`
	TTLSeconds int    `json:"ttlSeconds"`
}

// longestReservation bounds ttlSeconds: room that is needed for longer belongs to a pod.
const longestReservation = time.Hour

// ReadHold reads and checks a HoldRequest. Pod and Owner of the result are set, and Requests are in the pod.
func ReadHold(body []byte) (*HoldRequest, error) {
	r := &HoldRequest{}
	if err := strictly(body, r); err != nil {
		return nil, err
	}
	switch {
	case (r.Pod == nil) == (r.Requests == nil):
		return nil, errors.New("exactly one of pod and requests is needed")
	case r.Pod != nil && r.Owner == nil:
		owner := snapshot.OwnerOf(r.Pod)
		r.Owner = &owner
	case r.Pod == nil:
		r.Pod = &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "requests", Resources: corev1.ResourceRequirements{Requests: r.Requests}},
		}}}
		r.Requests = nil
	}
	switch {
	case r.Owner == nil || r.Owner.Kind == "" || r.Owner.Namespace == "" || r.Owner.Name == "":
		return nil, errors.New("owner: kind, namespace and name are needed: they say whose next pod gets the room")
	case r.Cluster == "":
		return nil, errors.New("cluster: empty: name the cluster to hold room in")
	case r.TTLSeconds < 1 || r.TTLSeconds > int(longestReservation.Seconds()):
		return nil, fmt.Errorf("ttlSeconds: %d is not within 1 and %d", r.TTLSeconds, int(longestReservation.Seconds()))
	}
	r.Pod.Namespace = r.Owner.Namespace
	if err := checkNames(&r.Pod.Spec); err != nil {
		return nil, err
	}
	return r, checkAmounts(r.Pod)
}

// strictly reads a JSON body without unknown keys and without anything after it.
func strictly(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("reading body: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("reading body: there is more after its end")
	}
	return nil
}

// checkNames refuses requests for what is no resource: a mistake that would hold nothing.
func checkNames(spec *corev1.PodSpec) error {
	for _, container := range slices.Concat(spec.InitContainers, spec.Containers) {
		for name := range container.Resources.Requests {
			if errs := validation.IsQualifiedName(string(name)); len(errs) > 0 || name == corev1.ResourcePods {
				return fmt.Errorf("requests: %q is not the name of a resource that a pod asks for", name)
			}
		}
	}
	return nil
}
