package mutate

import (
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// A Change decides about the object of a request. It returns the patch, or nil to leave the object as it is, and warnings for the user.
// Its error is a denied, told to the user, or says that the request is none for this path.
type Change func(*admissionv1.AdmissionRequest) (patch []byte, warnings []string, err error)

// denied is the error of a Change that refuses the object.
type denied struct{ error }

// Result says what came out of a review.
type Result string

// The results of a review.
const (
	Patched   Result = "patched"   // The object was changed.
	Unchanged Result = "unchanged" // Nothing to do.
	Denied    Result = "denied"    // The object is refused, its user was told why.
	Malformed Result = "malformed" // Not an AdmissionReview that the path understands.
)

// Review decides about one encoded AdmissionReview. Dry runs need nothing special: deciding has no side effect.
func Review(body []byte, decide Change) (*admissionv1.AdmissionReview, Result, error) {
	request, err := decode(body)
	if err != nil {
		return nil, Malformed, err
	}
	response := &admissionv1.AdmissionResponse{UID: request.UID, Allowed: true}
	result := Unchanged
	operations, warnings, err := decide(request)
	response.Warnings = warnings
	switch refused := (denied{}); {
	case errors.As(err, &refused):
		result = Denied
		response.Allowed = false
		response.Result = &metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity,
			Message: refused.Error(),
		}
	case err != nil:
		return nil, Malformed, err
	case operations != nil:
		result = Patched
		kind := admissionv1.PatchTypeJSONPatch
		response.Patch, response.PatchType = operations, &kind
	}
	return &admissionv1.AdmissionReview{TypeMeta: reviewType, Response: response}, result, nil
}

var reviewType = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}

// decode, like the API server, takes a key for a field only if it is written exactly so.
func decode(body []byte) (*admissionv1.AdmissionRequest, error) {
	var review admissionv1.AdmissionReview
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &review); err != nil {
		return nil, fmt.Errorf("decoding AdmissionReview: %w", err)
	}
	if review.TypeMeta != reviewType {
		return nil, fmt.Errorf("apiVersion %q, kind %q: only %s %s is understood",
			review.APIVersion, review.Kind, reviewType.APIVersion, reviewType.Kind)
	}
	if review.Request == nil || len(review.Request.Object.Raw) == 0 {
		return nil, errors.New("request.object: missing")
	}
	return review.Request, nil
}

// Pods returns the Change of POST /mutate: Mark at creation, Reseal at an update.
func Pods(settings Settings) Change {
	return func(request *admissionv1.AdmissionRequest) ([]byte, []string, error) {
		if request.Kind != podKind {
			return nil, nil, wrongKind(request, podKind)
		}
		if request.Operation == admissionv1.Update {
			return updated(request)
		}
		return changed(request, func(pod *corev1.Pod) (*corev1.Pod, []string, error) {
			return Mark(pod, request.Namespace, settings)
		})
	}
}

func updated(request *admissionv1.AdmissionRequest) ([]byte, []string, error) {
	old := &corev1.Pod{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(request.OldObject.Raw, old); err != nil {
		return nil, nil, fmt.Errorf("decoding request.oldObject: %w", err)
	}
	return changed(request, func(pod *corev1.Pod) (*corev1.Pod, []string, error) {
		sealed, err := Reseal(old, pod)
		return sealed, nil, err
	})
}

// Copies returns the Change of POST /restore: Restore.
func Copies(settings Settings) Change {
	return func(request *admissionv1.AdmissionRequest) ([]byte, []string, error) {
		if request.Kind != podKind {
			return nil, nil, wrongKind(request, podKind)
		}
		return changed(request, func(pod *corev1.Pod) (*corev1.Pod, []string, error) {
			open, err := Restore(pod, settings.Standard)
			return open, nil, err
		})
	}
}

// Others is the Change of POST /keep-off: KeepOff and KeepOffTemplate.
func Others(request *admissionv1.AdmissionRequest) ([]byte, []string, error) {
	switch request.Kind {
	case podKind:
		return changed(request, func(pod *corev1.Pod) (*corev1.Pod, []string, error) { return KeepOff(pod), nil, nil })
	case daemonSetKind:
		return changed(request, func(set *appsv1.DaemonSet) (*appsv1.DaemonSet, []string, error) {
			return KeepOffTemplate(set), nil, nil
		})
	}
	return nil, nil, wrongKind(request, podKind, daemonSetKind)
}

var (
	podKind       = metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	daemonSetKind = metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSet"}
)

func wrongKind(request *admissionv1.AdmissionRequest, want ...metav1.GroupVersionKind) error {
	return fmt.Errorf("request.kind: %s is none of %v, which this path takes", request.Kind, want)
}

// changed decodes the object of the request and returns the patch of what f makes of it. An error of f is for the user.
func changed[T any](request *admissionv1.AdmissionRequest, f func(*T) (*T, []string, error)) ([]byte, []string, error) {
	before := new(T)
	if err := kjson.UnmarshalCaseSensitivePreserveInts(request.Object.Raw, before); err != nil {
		return nil, nil, fmt.Errorf("decoding request.object: %w", err)
	}
	after, warnings, err := f(before)
	if err != nil {
		return nil, nil, denied{err}
	}
	if after == before {
		return nil, warnings, nil
	}
	operations, err := patch(request.Object.Raw, before, after)
	return operations, warnings, err
}
