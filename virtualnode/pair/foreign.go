package pair

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ErrForeign is an object below that somebody else made, under the name of one that is needed there.
var ErrForeign = errors.New("the name is taken in the lower cluster by what Tessera has not made for this upper cluster; " +
	"namespacePrefix in virtualnode's configuration would keep the two apart")

// Doing says what failed with an object below; it is nil where nothing did.
func Doing(what, kind string, object metav1.Object, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s %s/%s below: %w", what, kind, object.GetNamespace(), object.GetName(), err)
}

// Lasting reports whether a lower API server said no in a way that the next attempts will not change: quota, admission, a webhook that
// is down, what is invalid there. It is false for a connection that broke, a server that is busy, and a cache that is behind.
func Lasting(err error) bool {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		return false
	}
	for _, passes := range []func(error) bool{
		apierrors.IsConflict, apierrors.IsAlreadyExists, apierrors.IsNotFound, apierrors.IsTooManyRequests, apierrors.IsServerTimeout,
	} {
		if passes(err) {
			return false
		}
	}
	return true
}
