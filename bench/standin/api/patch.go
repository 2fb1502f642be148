package api

import (
	"mime"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/standin/admit"
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
	object, err := c.change(subresource, func(object objects.Object) error { return admit.Patch(object, kind, change) })
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, object)
}
