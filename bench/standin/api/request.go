package api

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
)

// path is what a URL names.
type path struct {
	group, version                         string
	namespace, resource, name, subresource string
}

// parse reads /api/v1/... and /apis/GROUP/VERSION/...
func parse(url string) (path, bool) {
	parts := strings.Split(strings.Trim(url, "/"), "/")
	var p path
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		p.version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		p.group, p.version, parts = parts[1], parts[2], parts[3:]
	default:
		return p, false
	}
	if parts[0] == "namespaces" && len(parts) >= 3 && !namespaceSubresource(parts) {
		p.namespace, parts = parts[1], parts[2:]
	}
	if len(parts) > 3 {
		return p, false
	}
	parts = append(parts, "", "")
	p.resource, p.name, p.subresource = parts[0], parts[1], parts[2]
	return p, true
}

// namespaceSubresource tells namespaces/NAME/status from namespaces/NAME/pods.
func namespaceSubresource(parts []string) bool {
	return len(parts) == 3 && (parts[2] == "status" || parts[2] == "finalize")
}

// accepted are the forms that can be had, as an error names them.
const accepted = runtime.ContentTypeJSON + ", " + runtime.ContentTypeProtobuf + ", " +
	runtime.ContentTypeJSON + ";stream=watch, " + runtime.ContentTypeProtobuf + ";stream=watch"

// negotiate returns the first form of the Accept header that is served. What is to be transformed (Table,
// PartialObjectMetadata) is not: such clients name the plain form as well.
func negotiate(r *http.Request) (objects.Encoding, error) {
	header := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(header) == "" {
		return objects.JSON, nil
	}
	for clause := range strings.SplitSeq(header, ",") {
		media, parameters, err := mime.ParseMediaType(strings.TrimSpace(clause))
		if err != nil || parameters["as"] != "" {
			continue
		}
		switch media {
		case runtime.ContentTypeProtobuf:
			return objects.Protobuf, nil
		case runtime.ContentTypeJSON, "*/*", "application/*":
			return objects.JSON, nil
		}
	}
	return objects.JSON, refusal(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"406: Not Acceptable\n\nAvailable representations: "+accepted)
}

// refusal is an error of the server itself, whatever is asked for.
func refusal(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message, Details: &metav1.StatusDetails{},
	}}
}

func noResource() error {
	return refusal(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
}

func contentType(encoding objects.Encoding) string {
	if encoding == objects.JSON {
		return runtime.ContentTypeJSON
	}
	return runtime.ContentTypeProtobuf
}

// call is one request about a resource.
type call struct {
	*Handler
	*Resource
	path
	w        http.ResponseWriter
	r        *http.Request
	encoding objects.Encoding
}

// fail answers with an error.
func fail(w http.ResponseWriter, encoding objects.Encoding, err error) {
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		status = apierrors.NewInternalError(err)
	}
	s := status.Status()
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(s.Details.RetryAfterSeconds))
	}
	answer(w, int(s.Code), schema.GroupVersionKind{Version: "v1", Kind: "Status"}, &s, encoding)
}

// answer writes one object.
func answer(w http.ResponseWriter, code int, kind schema.GroupVersionKind, object marshaler, encoding objects.Encoding) {
	raw, err := encode(object, encoding)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answerRaw(w, code, wrapped(nil, newPreamble(kind), raw, encoding), encoding)
}

func answerRaw(w http.ResponseWriter, code int, body []byte, encoding objects.Encoding) {
	w.Header().Set("Content-Type", contentType(encoding))
	w.WriteHeader(code)
	_, _ = w.Write(body) // The client may have gone.
}
