package virtualnode

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/virtualnode/hints"
)

func TestBadConfig(t *testing.T) {
	t.Parallel()
	const good = "clusters: /c\ninsecureLoopback: true\ninsecurePort: 1\n"
	cases := map[string]struct{ text, want string }{
		"good":             {good, ""},
		"no folder":        {"insecureLoopback: true\ninsecurePort: 1\n", "clusters: no folder given"},
		"no listener":      {"clusters: /c\n", "listen: no listener"},
		"unknown key":      {good + "cluster: /c\n", `unknown field "cluster"`},
		"own names":        {good + "ownNames: [a.crt, Not_A_Name]\n", `ownNames: "Not_A_Name" is no name of a ConfigMap or Secret`},
		"no own names":     {good + "ownNames: []\n", ""},
		"all selectors":    {good + "nodes: \"a=b,a==b,a!=c,a in (b),a notin (c),a,!d,e>1,e<9\"\n", ""},
		"hint":             {good + "hint: loud\n", `hint: "loud" is none of nominated, preferred, required, off`},
		"hint, a boolean":  {good + "hint: on\n", `hint: "true" is none of`},
		"hint, a list":     {good + "hint: [off]\n", "hint: "},
		"off, unquoted":    {good + "hint: off\n", ""},
		"hint of clusters": {good + "perCluster: {a: {hint: preferred}, b: {hint: required}, c: {hint: off}, d: {}, e: }\n", ""},
		"hint of a cluster": {good + "perCluster: {west: {hint: loud}}\n",
			`perCluster: west: hint: "loud" is none of nominated, preferred, required, off`},
		"key of a cluster":  {good + "perCluster: {west: {hints: off}}\n", `unknown field "hints"`},
		"name of a cluster": {good + "perCluster: {West: {hint: off}}\n", `perCluster: "West" is no name of a cluster`},
		"workers":           {good + "podWorkers: 0\n", "podWorkers: 0 is not between"},
		"extender":          {good + "extender: tessera-extender:443\n", "extender: \"tessera-extender:443\" is not a URL"},
		"all keys": {good + "perCluster: {a: {network: flat, namespacePrefix: t-, openNamespaces: ['*'], priorityBelow: map, priorityClasses: {a: b}, " +
			"allow: [hostPath], nodes: pool in (a), reserve: {cpu: 10%, memory: 4Gi}, onLost: {after: 10m}, providerID: 'x://{name}', unasked: accept}}\n", ""},
		"network":         {good + "network: round\n", `network: "round" is none of isolated, flat`},
		"services":        {good + "services: some\n", `services: "some" is none of all, namespace, none`},
		"policies":        {good + "networkPolicies: some\n", `networkPolicies: "some" is none of ignore, refuse, none`},
		"prefix":          {good + "perCluster: {a: {namespacePrefix: A_}}\n", `perCluster: a: namespacePrefix: "A_" cannot begin`},
		"power":           {good + "allow: [root]\n", `allow: "root" is none of hostNamespaces, hostPath, privileged, upperToken, lowerAccount`},
		"trusted":         {good + "allow: [upperToken]\nupperAPI: https://192.0.2.1:6443\n", ""},
		"trusted, where":  {good + "perCluster: {a: {allow: [upperToken]}}\n", "upperAPI: empty, needed by allow: [upperToken] of cluster a"},
		"upper API":       {good + "upperAPI: 192.0.2.1:6443\n", `upperAPI: "192.0.2.1:6443" is no URL such as https://`},
		"refresh":         {good + "tokenRefreshAfter: -1s\n", "tokenRefreshAfter: -1s is negative"},
		"nodes":           {good + "nodes: a==b==c\n", `nodes: "a==b==c" is no label selector`},
		"reserve":         {good + "reserve: {cpu: 110%}\n", `reserve: cpu: "110%" is no share`},
		"amount":          {good + "reserve: {cpu: lots}\n", `reserve: cpu: "lots" is neither a quantity`},
		"lost":            {good + "onLost: never\n", `onLost: "never" is none of standard, keep, {after: 10m}`},
		"lost, after":     {good + "onLost: {after: 1ms}\n", `onLost: {"after":"1ms"} is none of`},
		"provider":        {good + "providerID: sometimes\n", `providerID: "sometimes" is none of auto`},
		"grace":           {good + "orphanGrace: -1s\n", `orphanGrace: -1s is negative`},
		"election":        {good + "leaderElection: {enabled: true}\n", ""},
		"election, where": {good + "leaderElection: {enabled: true}\nnamespace: ''\n", "namespace: empty"},
		"election, times": {good + "leaderElection: {enabled: true, leaseDuration: 5s}\n",
			"leaderElection: renewDeadline: 10s is not shorter than leaseDuration, 5s"},
		"election, lease": {good + "leaderElection: {enabled: true, leaseDuration: 1500ms, renewDeadline: 1s, retryPeriod: 0s}\n",
			"leaseDuration: 1.5s is not a number of whole seconds"},
		"election, period": {good + "leaderElection: {enabled: true, retryPeriod: 9s}\n", "leaderElection: retryPeriod: 9s is not above 0"},
		"toleration":       {good + "defaultToleration: -1s\n", `defaultToleration: -1s is negative`},
		"renewal":          {good + "renewTokens: false\nnamespace: ''\n", ""},
		"renewal, where":   {good + "namespace: ''\n", "namespace: empty, renewed tokens go there"},
		"word for workers": {good + "podWorkers: many\n", "podWorkers"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := serve.Load(path, DefaultConfig())
			if (c.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestHintOfACluster(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := "clusters: /c\ninsecureLoopback: true\ninsecurePort: 1\nperCluster: {a: {hint: required}, b: {hint: off}, c: {}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := DefaultConfig()
	if err := serve.Load(path, config); err != nil {
		t.Fatal(err)
	}
	for cluster, want := range map[string]hints.Mode{"a": hints.Required, "b": hints.Off, "c": hints.Nominated, "d": hints.Nominated} {
		if got := config.cluster(cluster).Hint; got != want {
			t.Errorf("the hint of %s is %s, want %s", cluster, got, want)
		}
	}
}

func TestHelpDocumentsEveryKey(t *testing.T) {
	t.Parallel()
	help := NewCommand().Long
	for _, config := range []any{Config{}, ClusterConfig{}, serve.Config{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(config)) {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key != "" && !strings.Contains(help, "\n  "+key+":") && !strings.Contains(help, "\n"+key+":") {
				t.Errorf("--help does not document %s", key)
			}
		}
	}
}
