package kubelet

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Kind is what is asked of a pod, as the first part of the path.
type Kind string

// The kinds.
const (
	Logs        Kind = "containerLogs"
	Exec        Kind = "exec"
	Attach      Kind = "attach"
	PortForward Kind = "portForward"
)

// call is what a request asks of a pod.
type call struct {
	kind           Kind
	namespace, pod string
	uid            types.UID  // "" where the path has none
	container      string     // "" for PortForward
	query          url.Values // as the lower API server wants it, without the container
	follows        bool       // logs that go on: no answer comes before the first line
}

// changes reports whether something is done to the pod.
func (c *call) changes() bool { return c.kind != Logs }

// refusal is an answer in a kubelet's words.
type refusal struct {
	code int
	text string
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

// notFound is a kubelet's answer to a path that it does not know.
var notFound = refuse(http.StatusNotFound, "404: Page Not Found")

func refuse(code int, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// split returns the parts of a path that is as it should be: without encoded characters, empty parts and dots, which others might
// read in another way than we do. A slash at the end is let through, as by a kubelet.
func split(u *url.URL) ([]string, error) {
	if u.RawPath != "" || u.EscapedPath() != u.Path || !strings.HasPrefix(u.Path, "/") {
		return nil, notFound
	}
	parts := strings.Split(strings.TrimSuffix(u.Path[1:], "/"), "/")
	if slices.ContainsFunc(parts, func(part string) bool { return part == "" || part == "." || part == ".." }) {
		return nil, notFound
	}
	return parts, nil
}

// parse reads a request for a pod. The paths and parameters are those of k8s.io/kubernetes/pkg/kubelet/server.
func parse(method string, parts []string, query url.Values) (*call, error) {
	c := &call{kind: Kind(parts[0])}
	least, most := 4, 5 // kind, namespace, pod, UID or not, container
	switch c.kind {
	case Logs:
		most = 4
	case PortForward:
		least, most = 3, 4
	}
	switch {
	case method != http.MethodGet && (method != http.MethodPost || c.kind == Logs):
		return nil, refuse(http.StatusMethodNotAllowed, "Method Not Allowed")
	case len(parts) < least || len(parts) > most:
		return nil, notFound
	}
	c.namespace, c.pod = parts[1], parts[2]
	rest := parts[3:]
	if c.kind != PortForward {
		c.container, rest = rest[len(rest)-1], rest[:len(rest)-1]
	}
	if len(rest) > 0 {
		c.uid = types.UID(rest[0])
	}
	if err := c.names(); err != nil {
		return nil, err
	}
	var err error
	c.query, err = c.kind.query(query)
	c.follows = c.kind == Logs && isTrue(query.Get("follow"))
	return c, err
}

// names refuses what can be no name: nothing of that name exists.
func (c *call) names() error {
	if len(validation.IsDNS1123Label(c.namespace)) > 0 || len(validation.IsDNS1123Subdomain(c.pod)) > 0 {
		return noPod(c)
	}
	if c.kind != PortForward && len(validation.IsDNS1123Label(c.container)) > 0 {
		return noContainer(c)
	}
	return nil
}

func noPod(c *call) error {
	if c.kind == Logs {
		return refuse(http.StatusNotFound, "pod %q does not exist", c.pod)
	}
	return refuse(http.StatusNotFound, "pod does not exist")
}

func noContainer(c *call) error {
	if c.kind == Logs {
		return refuse(http.StatusNotFound, "container %q not found in pod %q", c.container, c.pod)
	}
	return refuse(http.StatusNotFound, "container not found (%q)", c.container)
}

// query is that of the lower API server (PodLogOptions, PodExecOptions, PodAttachOptions, PodPortForwardOptions). What is not known is
// left out.
func (k Kind) query(asked url.Values) (url.Values, error) {
	switch k {
	case Logs:
		return logsQuery(asked), nil
	case PortForward:
		return portsQuery(asked)
	default:
		return streamsQuery(asked, k == Exec)
	}
}

func logsQuery(asked url.Values) url.Values {
	query := url.Values{}
	for _, name := range []string{"follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"} {
		if asked.Has(name) {
			query[name] = asked[name]
		}
	}
	if tail := asked.Get("tail"); tail == "all" { // Older than tailLines.
		query.Del("tailLines")
	} else if tail != "" {
		query.Set("tailLines", tail)
	}
	if query.Get("stream") == "All" { // What holds anyway; an API server without that feature refuses the word.
		query.Del("stream")
	}
	return query
}

func isTrue(text string) bool {
	value, err := strconv.ParseBool(text)
	return err == nil && value
}

func streamsQuery(asked url.Values, command bool) (url.Values, error) {
	query := url.Values{}
	tty := asked.Get("tty") == "1"
	for of, to := range map[string]string{"input": "stdin", "output": "stdout", "error": "stderr", "tty": "tty"} {
		if asked.Get(of) == "1" && (of != "error" || !tty) { // A terminal has no standard error of its own.
			query.Set(to, "true")
		}
	}
	if !query.Has("stdin") && !query.Has("stdout") && !query.Has("stderr") {
		return nil, refuse(http.StatusBadRequest, "you must specify at least 1 of stdin, stdout, stderr")
	}
	if command && asked.Has("command") {
		query["command"] = asked["command"]
	}
	return query, nil
}

// portsQuery gives each port a parameter of its own. SPDY clients name them later, in the headers of their streams.
func portsQuery(asked url.Values) (url.Values, error) {
	query := url.Values{}
	for _, list := range asked["port"] {
		for text := range strings.SplitSeq(list, ",") {
			port, err := strconv.ParseUint(text, 10, 16)
			if err == nil && port == 0 {
				err = errors.New("port must be > 0")
			}
			if err != nil {
				return nil, refuse(http.StatusBadRequest, "unable to parse %q as a port: %v", text, err)
			}
			query.Add("ports", text)
		}
	}
	return query, nil
}

// lower is the path and the query of the lower API server for a lower pod.
func (c *call) lower(namespace, pod string) (path string, query url.Values) {
	subresource := map[Kind]string{Logs: "log", Exec: "exec", Attach: "attach", PortForward: "portforward"}[c.kind]
	query = c.query
	if c.container != "" {
		query.Set("container", c.container)
	}
	return "/api/v1/namespaces/" + namespace + "/pods/" + pod + "/" + subresource, query
}
