package api

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
)

// Counts are what the handlers of all clusters have done.
type Counts struct {
	Lists, Gets, Writes, Opened atomic.Int64 // calls
	Watches                     atomic.Int64 // that are open now
	Events, Initial, Bookmarks  atomic.Int64 // of watches: changes, objects at their start, bookmarks
	Listed                      atomic.Int64 // objects in lists
	Bytes                       atomic.Int64 // of lists and watches
}

// Handler answers for one cluster.
type Handler struct {
	*Cluster
	Counts *Counts
	// Kubernetes is the version that is reported, such as v1.37.2.
	Kubernetes string
	// Stop is closed when watches are to end.
	Stop <-chan struct{}
}

// open are the paths that anybody may ask for.
var open = []string{"/healthz", "/livez", "/readyz", "/version"}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache, private")
	encoding, err := negotiate(r)
	for _, path := range open {
		if r.URL.Path == path || strings.HasPrefix(r.URL.Path, path+"/") {
			h.serveOpen(w, path)
			return
		}
	}
	if r.Header.Get("Authorization") != "Bearer "+h.Token {
		fail(w, encoding, apierrors.NewUnauthorized("Unauthorized"))
		return
	}
	if err != nil {
		fail(w, encoding, err)
		return
	}
	if !h.discover(w, r, encoding) {
		h.serveResource(w, r, encoding)
	}
}

// serveResource answers what is asked about objects.
func (h *Handler) serveResource(w http.ResponseWriter, r *http.Request, encoding objects.Encoding) {
	p, ok := parse(r.URL.Path)
	resource := h.resources[schema.GroupResource{Group: p.group, Resource: p.resource}]
	if ok && p.group == authorizationGroup && r.Method == http.MethodPost {
		h.review(w, r, p, encoding)
		return
	}
	if !ok || p.version != "v1" || p.group != "" && !served(p.group) {
		http.Error(w, "404 page not found", http.StatusNotFound) // As a real one says it of paths that nothing is behind.
		return
	}
	if resource == nil || p.namespace != "" && !resource.Namespaced {
		fail(w, encoding, noResource())
		return
	}
	c := &call{Handler: h, Resource: resource, path: p, w: w, r: r, encoding: encoding}
	if err := c.serve(); err != nil {
		fail(w, encoding, err)
	}
}

// serve answers a call. What it returns is to be answered.
func (c *call) serve() error {
	if c.subresource != "" {
		return c.serveSubresource()
	}
	switch c.r.Method {
	case http.MethodGet:
		if c.name != "" {
			return c.get()
		}
		return c.listOrWatch()
	case http.MethodPost:
		if c.name == "" {
			return c.create()
		}
	case http.MethodPut:
		if c.name != "" {
			return c.update("")
		}
	case http.MethodPatch:
		if c.name != "" {
			return c.patch("")
		}
	case http.MethodDelete:
		if c.name == "" {
			return c.deleteAll()
		}
		return c.delete()
	}
	return c.notAllowed()
}

func (c *call) serveSubresource() error {
	if !c.hasSubresource() {
		return noResource()
	}
	switch {
	case c.subresource == "binding" && c.r.Method == http.MethodPost:
		return c.bind()
	case c.subresource == "eviction" && c.r.Method == http.MethodPost:
		return c.evict()
	case c.subresource == "binding", c.subresource == "eviction":
		return c.notAllowed()
	case c.r.Method == http.MethodGet:
		return c.get()
	case c.r.Method == http.MethodPatch:
		return c.patch(c.subresource)
	case c.r.Method == http.MethodPut:
		return c.update(c.subresource)
	}
	return c.notAllowed()
}

func (c *call) hasSubresource() bool {
	if c.subresource == "status" {
		return c.Status
	}
	return slices.Contains(c.More, c.subresource)
}

func (c *call) notAllowed() error {
	return refusal(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed,
		"the server does not allow this method on the requested resource")
}

// get answers with one object.
func (c *call) get() error {
	c.Counts.Gets.Add(1)
	item, ok := c.Get(c.namespace, c.name)
	if !ok {
		return apierrors.NewNotFound(c.groupResource(), c.name)
	}
	raw, err := c.raw(&item)
	if err != nil {
		return err
	}
	answerRaw(c.w, http.StatusOK, wrapped(nil, newPreamble(c.GroupVersionKind), raw, c.encoding), c.encoding)
	return nil
}

// review answers that everything is allowed: the account of a stand-in may do what it asks for.
func (h *Handler) review(w http.ResponseWriter, r *http.Request, p path, encoding objects.Encoding) {
	review, ok := newReview(p.resource)
	if !ok {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	if err := decodeInto(r, review.object); err != nil {
		fail(w, encoding, err)
		return
	}
	review.allow()
	answer(w, http.StatusCreated, review.kind, review.object, encoding)
}

// success is what a call answers that leaves nothing to show.
func success(details *metav1.StatusDetails) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusSuccess, Details: details}
}

// done is what a call answers that made something of a pod.
func done() *metav1.Status {
	return &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}
}
