package api

import (
	"encoding/json"
	"mime"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
)

// patch changes an object as the body says.
func (c *call) patch(subresource string) error {
	media, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	kind := types.PatchType(media)
	if err != nil || kind != types.JSONPatchType && kind != types.MergePatchType && kind != types.StrategicMergePatchType {
		return refusal(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType, "415: Unsupported Media Type")
	}
	change, err := body(c.r)
	if err != nil {
		return err
	}
	object, err := c.change(subresource, func(object objects.Object) error { return patched(object, kind, change) })
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, object)
}

// patched applies a patch to an object.
func patched(object objects.Object, kind types.PatchType, change []byte) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	switch kind {
	case types.JSONPatchType:
		patch, decodeErr := jsonpatch.DecodePatch(change)
		if decodeErr != nil {
			return apierrors.NewBadRequest(decodeErr.Error())
		}
		if text, err = patch.Apply(text); err != nil {
			return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", objectResource, "", err.Error(), 0, false)
		}
	case types.MergePatchType:
		text, err = jsonpatch.MergePatch(text, change)
	default:
		text, err = strategicpatch.StrategicMergePatch(text, change, object)
	}
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	empty := object.(interface{ Reset() })
	empty.Reset()
	if err := json.Unmarshal(text, object); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}
