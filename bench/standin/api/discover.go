package api

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
)

const authorizationGroup = "authorization.k8s.io"

// verbs are what can be done with every kind.
var verbs = metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

func (h *Handler) serveOpen(w http.ResponseWriter, path string) {
	if path != "/version" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, "ok")
		return
	}
	numbers := strings.SplitN(strings.TrimPrefix(h.Kubernetes, "v"), ".", 3)
	answerRaw(w, http.StatusOK, mustJSON(version.Info{
		Major: numbers[0], Minor: numbers[1], EmulationMajor: numbers[0], EmulationMinor: numbers[1], GitVersion: h.Kubernetes,
		GitTreeState: "clean", GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}), objects.JSON)
}

// discover answers what there is, and reports whether the path was one of those.
func (h *Handler) discover(w http.ResponseWriter, r *http.Request, encoding objects.Encoding) bool {
	say := func(kind string, object marshaler) bool {
		answer(w, http.StatusOK, schema.GroupVersionKind{Version: "v1", Kind: kind}, object, encoding)
		return true
	}
	switch parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); {
	case r.URL.Path == "/api":
		return say("APIVersions", &metav1.APIVersions{
			Versions:                   []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host}},
		})
	case r.URL.Path == "/apis":
		list := &metav1.APIGroupList{}
		for _, group := range groups() {
			list.Groups = append(list.Groups, apiGroup(group))
		}
		return say("APIGroupList", list)
	case r.URL.Path == "/api/v1":
		return say("APIResourceList", resourceList(""))
	case len(parts) == 2 && parts[0] == "apis" && served(parts[1]):
		group := apiGroup(parts[1])
		return say("APIGroup", &group)
	case len(parts) == 3 && parts[0] == "apis" && parts[2] == "v1" && served(parts[1]):
		return say("APIResourceList", resourceList(parts[1]))
	}
	return false
}

func served(group string) bool {
	return slices.Contains(groups(), group)
}

func apiGroup(name string) metav1.APIGroup {
	v := metav1.GroupVersionForDiscovery{GroupVersion: name + "/v1", Version: "v1"}
	return metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}
}

func resourceList(group string) *metav1.APIResourceList {
	list := &metav1.APIResourceList{GroupVersion: schema.GroupVersion{Group: group, Version: "v1"}.String()}
	if group == authorizationGroup {
		list.APIResources = []metav1.APIResource{{Name: "selfsubjectaccessreviews", SingularName: "selfsubjectaccessreview",
			Kind: "SelfSubjectAccessReview", Verbs: metav1.Verbs{"create"}}}
	}
	for _, kind := range Kinds() {
		if kind.Group != group {
			continue
		}
		r := metav1.APIResource{Name: kind.Resource, SingularName: kind.singular(), Namespaced: kind.Namespaced, Kind: kind.Kind, Verbs: verbs}
		if kind.Kind == "Namespace" { // Nobody is to delete all of them.
			r.Verbs = metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"}
		}
		if kind.Short != "" {
			r.ShortNames = []string{kind.Short}
		}
		list.APIResources = append(list.APIResources, r)
		if kind.Status {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: kind.Resource + "/status", Namespaced: kind.Namespaced,
				Kind: kind.Kind, SingularName: kind.singular(), Verbs: metav1.Verbs{"get", "patch", "update"}})
		}
		for _, more := range kind.More {
			list.APIResources = append(list.APIResources, subresource(kind, more))
		}
	}
	return list
}

// subresource describes one of pods.
func subresource(kind Kind, name string) metav1.APIResource {
	r := metav1.APIResource{
		Name: kind.Resource + "/" + name, SingularName: kind.singular(), Namespaced: true, Kind: kind.Kind,
		Verbs: metav1.Verbs{"get", "patch", "update"},
	}
	switch name {
	case "binding":
		r.Kind, r.Verbs = "Binding", metav1.Verbs{"create"}
	case "eviction":
		r.Group, r.Version, r.Kind, r.Verbs = "policy", "v1", "Eviction", metav1.Verbs{"create"}
	}
	return r
}

// review is a question about rights.
type review struct {
	kind   schema.GroupVersionKind
	object objects.Object
	allow  func()
}

func newReview(resource string) (review, bool) {
	if resource != "selfsubjectaccessreviews" {
		return review{}, false
	}
	object := &authorizationv1.SelfSubjectAccessReview{}
	return review{
		kind:   schema.GroupVersionKind{Group: authorizationGroup, Version: "v1", Kind: "SelfSubjectAccessReview"},
		object: object, allow: func() { object.Status.Allowed = true },
	}, true
}
