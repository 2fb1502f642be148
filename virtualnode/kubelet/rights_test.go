package kubelet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// The paths and what they stand for are those of AuthzTestCases in k8s.io/kubernetes/pkg/kubelet/server/auth_test.go, 1.37.2, which
// are too large to be linked here.
func TestRights(t *testing.T) {
	t.Parallel()
	who := &user.DefaultInfo{Name: "phibby"}
	for path, subresources := range map[string][]string{
		"/attach/{podNamespace}/{podID}/{containerName}":       {"proxy"},
		"/attach/{podNamespace}/{podID}/{uid}/{containerName}": {"proxy"},
		"/checkpoint/{podNamespace}/{podID}/{containerName}":   {"checkpoint"},
		"/flagz":   {"configz"},
		"/statusz": {"statusz"},
		"/containerLogs/{podNamespace}/{podID}/{containerName}": {"proxy"},
		"/debug/flags/v":                                     {"proxy"},
		"/debug/pprof/{subpath:*}":                           {"proxy"},
		"/exec/{podNamespace}/{podID}/{containerName}":       {"proxy"},
		"/exec/{podNamespace}/{podID}/{uid}/{containerName}": {"proxy"},
		"/logs/":                              {"log"},
		"/logs/{logpath:*}":                   {"log"},
		"/metrics":                            {"metrics"},
		"/metrics/slis":                       {"metrics"},
		"/metrics/cadvisor":                   {"metrics"},
		"/metrics/probes":                     {"metrics"},
		"/metrics/resource":                   {"metrics"},
		"/portForward/{podNamespace}/{podID}": {"proxy"},
		"/portForward/{podNamespace}/{podID}/{uid}":   {"proxy"},
		"/run/{podNamespace}/{podID}/{containerName}": {"proxy"},
		"/stats/":           {"stats"},
		"/stats/summary":    {"stats"},
		"/healthz":          {"healthz", "proxy"},
		"/healthz/log":      {"healthz", "proxy"},
		"/healthz/ping":     {"healthz", "proxy"},
		"/healthz/syncloop": {"healthz", "proxy"},
		"/pods/":            {"pods", "proxy"},
		"/runningpods/":     {"pods", "proxy"},
		"/configz":          {"configz", "proxy"},
		// Not theirs: what only looks like one of them.
		"/statsx":          {"proxy"},
		"//metrics":        {"proxy"},
		"/exec/../metrics": {"proxy"},
		"/":                {"proxy"},
	} {
		for method, verb := range map[string]string{
			"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "OPTIONS": "",
		} {
			var want []authorizer.Attributes
			for _, subresource := range subresources {
				want = append(want, authorizer.AttributesRecord{
					User: who, APIVersion: "v1", Verb: verb, Resource: "nodes", Name: "test", Subresource: subresource, ResourceRequest: true, Path: path,
				})
			}
			if diff := cmp.Diff(want, rights("test", who, method, path), cmp.AllowUnexported(authorizer.AttributesRecord{})); diff != "" {
				t.Errorf("%s %s: %s", method, path, diff)
			}
		}
	}
}
