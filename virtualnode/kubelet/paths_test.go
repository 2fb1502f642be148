package kubelet

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asks maps a request as the server does, to the lower path and query or to a refusal.
func asks(t *testing.T, method, target string) string {
	t.Helper()
	u, err := url.Parse("https://10.0.0.1:10300" + target)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := split(u)
	var c *call
	if err == nil {
		c, err = parse(method, parts, u.Query())
	}
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		return fmt.Sprintf("%d %s", refused.code, refused.text)
	}
	path, query := c.lower("lower-ns", "lower-pod")
	text := path + "?" + query.Encode()
	if c.uid != "" {
		text += " uid " + string(c.uid)
	}
	if c.follows {
		text += " follows"
	}
	return c.namespace + "/" + c.pod + " " + text
}

func TestPaths(t *testing.T) {
	t.Parallel()
	const below = "a/p /api/v1/namespaces/lower-ns/pods/lower-pod/"
	const unknown = "404 404: Page Not Found"
	for target, want := range map[string]string{
		"/containerLogs/a/p/c":  below + "log?container=c",
		"/containerLogs/a/p/c/": below + "log?container=c",
		"/containerLogs/a/p/c?follow=true&previous=true&timestamps=true&tailLines=5&sinceSeconds=9&limitBytes=7": below +
			"log?container=c&follow=true&limitBytes=7&previous=true&sinceSeconds=9&tailLines=5&timestamps=true follows",
		"/containerLogs/a/p/c?sinceTime=2026-01-02T03:04:05Z&stream=Stderr":                      below + "log?container=c&sinceTime=2026-01-02T03%3A04%3A05Z&stream=Stderr",
		"/containerLogs/a/p/c?stream=All&follow=false":                                           below + "log?container=c&follow=false",
		"/containerLogs/a/p/c?tail=5":                                                            below + "log?container=c&tailLines=5",
		"/containerLogs/a/p/c?tail=all&tailLines=9":                                              below + "log?container=c",
		"/containerLogs/a/p/c?container=other&insecureSkipTLSVerifyBackend=true&fieldSelector=x": below + "log?container=c",
		"/containerLogs/a/p":       unknown,
		"/containerLogs/a/p/uid/c": unknown,
		"/exec/a/p/c?command=sh&command=-c&command=echo+%26&input=1&output=1&error=1": below + "exec?command=sh&command=-c&command=echo+%26&container=c&stderr=true&stdin=true&stdout=true",
		"/exec/a/p/uid-1/c?command=ls&output=1":                                       below + "exec?command=ls&container=c&stdout=true uid uid-1",
		"/exec/a/p/c?command=sh&input=1&output=1&error=1&tty=1":                       below + "exec?command=sh&container=c&stdin=true&stdout=true&tty=true",
		"/exec/a/p/c?command=ls":                                                      "400 you must specify at least 1 of stdin, stdout, stderr",
		"/exec/a/p/c?command=ls&error=1&tty=1":                                        "400 you must specify at least 1 of stdin, stdout, stderr",
		"/exec/a/p/c?command=ls&stdout=true":                                          "400 you must specify at least 1 of stdin, stdout, stderr",
		"/exec/a/p":                                                                   unknown,
		"/exec/a/p/u/c/more":                                                          unknown,
		"/attach/a/p/c?input=1&output=1&command=x":                                    below + "attach?container=c&stdin=true&stdout=true",
		"/portForward/a/p":                                                            below + "portforward?",
		"/portForward/a/p/uid-1":                                                      below + "portforward? uid uid-1",
		"/portForward/a/p?port=80,443&port=8080":                                      below + "portforward?ports=80&ports=443&ports=8080",
		"/portForward/a/p?port=0":                                                     `400 unable to parse "0" as a port: port must be > 0`,
		"/portForward/a/p?port=65536":                                                 `400 unable to parse "65536" as a port: strconv.ParseUint: parsing "65536": value out of range`,
		"/portForward/a/p/u/c":                                                        unknown,
		"/portForward/a":                                                              unknown,
		// Tricks: nothing of these gets below.
		"/containerLogs/a/../c":            unknown,
		"/containerLogs/a/%2e%2e/c":        unknown,
		"/containerLogs/a/p%2f..%2fq/c":    unknown,
		"/containerLogs/a//c":              unknown,
		"//containerLogs/a/p/c":            unknown,
		"/containerLogs/a/p/c//":           unknown,
		"/containerLogs/./a/p/c":           unknown,
		"/containerLogs/a/p%00/c":          unknown,
		"/containerLogs/a/p/c%3Ffollow":    unknown,
		"/containerLogs/A/p/c":             `404 pod "p" does not exist`,
		"/containerLogs/a/p;q/c":           `404 pod "p;q" does not exist`,
		"/containerLogs/a/P_1/c":           `404 pod "P_1" does not exist`,
		"/containerLogs/a/p/C":             `404 container "C" not found in pod "p"`,
		"/exec/a/p..q/c?output=1":          "404 pod does not exist",
		"/exec/a/p/c_1?output=1&command=x": `404 container not found ("c_1")`,
	} {
		if diff := cmp.Diff(want, asks(t, http.MethodGet, target)); diff != "" {
			t.Errorf("%s: %s", target, diff)
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	const refused = "405 Method Not Allowed"
	for asked, want := range map[[2]string]bool{
		{"GET", "/containerLogs/a/p/c"}: true, {"POST", "/containerLogs/a/p/c"}: false, {"HEAD", "/containerLogs/a/p/c"}: false,
		{"POST", "/exec/a/p/c?output=1"}: true, {"PUT", "/exec/a/p/c?output=1"}: false, {"DELETE", "/attach/a/p/c?output=1"}: false,
		{"POST", "/portForward/a/p"}: true, {"CONNECT", "/portForward/a/p"}: false,
	} {
		if got := asks(t, asked[0], asked[1]); (got != refused) != want {
			t.Errorf("%s: %s", asked, got)
		}
	}
}
