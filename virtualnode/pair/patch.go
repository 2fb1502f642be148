package pair

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// TwoWay is the strategic merge patch that makes of one pod the other.
func TwoWay(before, after *corev1.Pod) ([]byte, error) {
	old, err := json.Marshal(before)
	if err != nil {
		return nil, err
	}
	wanted, err := json.Marshal(after)
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(old, wanted, corev1.Pod{})
}

// Refused reports whether the lower cluster does not want it that way, however often it is asked.
func Refused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) }

// IgnoreGone drops the error of a pod that has gone or been changed meanwhile: its event brings us back.
func IgnoreGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
