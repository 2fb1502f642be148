package kubelet

import (
	"net/http"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// rights are those of which the user needs one, in the order in which they are asked for, as in
// k8s.io/kubernetes/pkg/kubelet/server/auth.go (1.37.2, KubeletFineGrainedAuthz).
func rights(node string, who user.Info, method, path string) []authorizer.Attributes {
	verb := map[string]string{
		http.MethodPost: "create", http.MethodGet: "get", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
	}[method]
	var all []authorizer.Attributes
	for _, subresource := range subresources(path) {
		all = append(all, authorizer.AttributesRecord{
			User: who, Verb: verb, APIVersion: "v1", Resource: "nodes", Subresource: subresource, Name: node, ResourceRequest: true, Path: path,
		})
	}
	return all
}

// subresources are those of the Node that a path stands for: first the one of its own that some have beside a wider one.
func subresources(path string) (all []string) {
	switch {
	case within(path, "/allocatedPods"), within(path, "/pods"), within(path, "/runningpods"):
		all = append(all, "pods")
	case within(path, "/healthz"):
		all = append(all, "healthz")
	case within(path, "/configz"):
		all = append(all, "configz")
	}
	switch {
	case within(path, "/stats"):
		return append(all, "stats")
	case within(path, "/metrics"):
		return append(all, "metrics")
	case within(path, "/logs"):
		return append(all, "log")
	case within(path, "/checkpoint"):
		return append(all, "checkpoint")
	case within(path, "/statusz"):
		return append(all, "statusz")
	case within(path, "/flagz"):
		return append(all, "configz")
	}
	return append(all, "proxy")
}

func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }
