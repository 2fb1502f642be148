package wire

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// asks is the body of a filter about a pod with these requests.
func asks(requests string) string {
	return `{"Pod":{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","resources":{"requests":{` + requests + `}}}]}},"NodeNames":[]}`
}

func TestArgsThatAreRefused(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ body, want string }{
		"no JSON":                {"{", "unexpected end"},
		"cut off":                {asks(`"cpu":"1"`)[:40], "unexpected end"},
		"more after the end":     {asks(`"cpu":"1"`) + "x", "after top-level value"},
		"null":                   {"null", "no Pod"},
		"no pod":                 {`{"NodeNames":["a"]}`, "no Pod"},
		"a pod without a name":   {`{"Pod":{},"NodeNames":["a"]}`, "no name"},
		"no nodes":               {`{"Pod":{"metadata":{"name":"p"}}}`, "neither NodeNames nor Nodes"},
		"names of a wrong type":  {`{"Pod":{"metadata":{"name":"p"}},"NodeNames":"a"}`, "cannot unmarshal"},
		"a pod of a wrong type":  {`{"Pod":[],"NodeNames":[]}`, "cannot unmarshal"},
		"an empty name":          {`{"Pod":{"metadata":{"name":"p"}},"NodeNames":["a",""]}`, "one of them is empty"},
		"a node without a name":  {`{"Pod":{"metadata":{"name":"p"}},"Nodes":{"items":[{}]}}`, "one of them has no name"},
		"nested too deeply":      {strings.Repeat("[", 1<<20), "exceeded max depth"},
		"a quantity of words":    {asks(`"cpu":"lots"`), "quantities must match"},
		"a negative quantity":    {asks(`"cpu":"-1"`), `container "c": -1 of cpu is not within`},
		"more CPU than 64 bits":  {asks(`"cpu":"1e18"`), `of cpu in all is not within`},
		"more than any number":   {asks(`"example.com/gpu":"1e400"`), `of example.com/gpu in all is not within`},
		"a negative overhead":    {`{"Pod":{"metadata":{"name":"p"},"spec":{"overhead":{"memory":"-1Gi"}}},"NodeNames":[]}`, "the overhead: -1Gi of memory"},
		"a negative pod level":   {`{"Pod":{"metadata":{"name":"p"},"spec":{"resources":{"requests":{"cpu":"-1m"}}}},"NodeNames":[]}`, "the pod: -1m of cpu"},
		"a negative init":        {`{"Pod":{"metadata":{"name":"p"},"spec":{"initContainers":[{"name":"i","resources":{"requests":{"cpu":-1}}}]}},"NodeNames":[]}`, `container "i"`},
		"a negative limit":       {`{"Pod":{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":-1}}}]}},"NodeNames":[]}`, "limits"},
		"an absurd sum of small": {`{"Pod":{"metadata":{"name":"p"},"spec":{"containers":[{"resources":{"requests":{"cpu":"1e15"}}},{"resources":{"requests":{"cpu":"1e15"}}}]}},"NodeNames":[]}`, "2e15 of cpu in all"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args, err := ReadArgs([]byte(test.body))
			if err == nil || !strings.HasPrefix(err.Error(), "reading request: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not say %q; args %v", err, test.want, args)
			}
		})
	}
	if _, err := ReadArgs(nil); err == nil || !strings.Contains(err.Error(), "nodeCacheCapable") {
		t.Errorf("a body that could not be read: %v", err)
	}
}

func TestArgsAreRead(t *testing.T) {
	t.Parallel()
	many := make([]string, 20_000)
	for i := range many {
		many[i] = fmt.Sprint("n", i%10_000)
	}
	cases := map[string]struct {
		body  string
		names []string // of NodeNames
		nodes []string // of Nodes
	}{
		"names once, in their order":       {body: `{"NodeNames":["b","a","b","a","c"]}`, names: []string{"b", "a", "c"}},
		"no name at all":                   {body: `{"NodeNames":[]}`, names: []string{}},
		"whole nodes once":                 {body: `{"Nodes":{"items":[{"metadata":{"name":"b"}},{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}}`, nodes: []string{"b", "a"}},
		"both forms":                       {body: `{"NodeNames":["a"],"Nodes":{"items":[{"metadata":{"name":"b"}}]}}`, names: []string{"a"}, nodes: []string{"b"}},
		"fields of a later version":        {body: `{"NodeNames":["a"],"Later":{"x":1}}`, names: []string{"a"}},
		"10,000 names, each of them twice": {body: `{"NodeNames":` + encode(t, many) + `}`, names: many[:10_000]},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args, err := ReadArgs([]byte(`{"Pod":{"metadata":{"name":"p"}},` + test.body[1:]))
			if err != nil {
				t.Fatal(err)
			}
			var names, nodes []string
			if args.NodeNames != nil {
				names = *args.NodeNames
			}
			if args.Nodes != nil {
				nodes = nodeNames(args.Nodes)
			}
			if diff := cmp.Diff(test.names, names); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.nodes, nodes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPreemptionHasNoHoles(t *testing.T) {
	t.Parallel()
	args, err := ReadPreemption([]byte(`{"NodeNameToVictims":{"a":null,"b":{"Pods":[null,{}]}},"NodeNameToMetaVictims":{"a":null,"b":{"Pods":[{"UID":"u"},null]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &extenderv1.ExtenderPreemptionArgs{
		NodeNameToVictims:     map[string]*extenderv1.Victims{"b": {Pods: []*corev1.Pod{{}}}},
		NodeNameToMetaVictims: map[string]*extenderv1.MetaVictims{"b": {Pods: []*extenderv1.MetaPod{{UID: "u"}}}},
	}
	if diff := cmp.Diff(want, args); diff != "" {
		t.Error(diff)
	}
	if _, err := ReadPreemption([]byte("[]")); err == nil {
		t.Error("a list was accepted")
	}
}

func TestBindingIsWhole(t *testing.T) {
	t.Parallel()
	whole := map[string]string{"PodName": "p", "PodNamespace": "ns", "PodUID": "u", "Node": "vn-a"}
	if _, err := ReadBinding([]byte(encode(t, whole))); err != nil {
		t.Error(err)
	}
	for key := range whole {
		body := map[string]string{"PodName": "p", "PodNamespace": "ns", "PodUID": "u", "Node": "vn-a"}
		body[key] = ""
		if _, err := ReadBinding([]byte(encode(t, body))); err == nil {
			t.Errorf("%s is empty, and no error", key)
		}
	}
	if _, err := ReadBinding([]byte("{")); err == nil {
		t.Error("no JSON, and no error")
	}
}

// FuzzVerbs gives the same bytes to the decoder of every verb. What one of them takes can be worked with, and decodes to
// the same again when it is encoded.
func FuzzVerbs(f *testing.F) {
	f.Add([]byte(`{"Pod":{"metadata":{"name":"web-1","namespace":"shop","uid":"u1","labels":{"app":"web"},"annotations":{"tessera.sh/sealed":"{}"},
"creationTimestamp":"2026-01-02T03:04:05Z","ownerReferences":[{"kind":"ReplicaSet","name":"web","uid":"u2","controller":true}]},
"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"500m","memory":"1Gi","tessera.sh/pod":"0"}},"ports":[{"hostPort":80}]}],
"initContainers":[{"name":"i","restartPolicy":"Always","resources":{"requests":{"cpu":1}}}],"overhead":{"cpu":"10m"},"resources":{"requests":{"cpu":"2"}},
"tolerations":[{"operator":"Exists"}],"nodeSelector":{"a":"b"}},"status":{"nominatedNodeName":"vn-a","conditions":[{"type":"PodScheduled","status":"False"}]}},
"Nodes":null,"NodeNames":["vn-a","vn-b","real","vn-a"]}`))
	f.Add([]byte(`{"Pod":{"metadata":{"name":"p"}},"Nodes":{"items":[{"metadata":{"name":"vn-a"},"status":{"allocatable":{"cpu":"-4"}}},{"metadata":{"name":""}}]}}`))
	f.Add([]byte(asks(`"cpu":"-1","memory":"9223372036854775807","example.com/gpu":"1e30"`)))
	f.Add([]byte(`{"Pod":{},"NodeNameToVictims":{"a":{"Pods":[{"metadata":{"uid":"v"}},null],"NumPDBViolations":1},"b":null},"NodeNameToMetaVictims":{"a":{"Pods":[{"UID":"v"},null]}}}`))
	f.Add([]byte(`{"PodName":"p","PodNamespace":"ns","PodUID":"u","Node":"vn-a"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if args, err := ReadArgs(body); err == nil {
			workable(t, args)
			same(t, args, ReadArgs)
		}
		if args, err := ReadPreemption(body); err == nil {
			for node, victims := range args.NodeNameToVictims {
				if victims == nil || slices.Contains(victims.Pods, nil) {
					t.Errorf("holes among the victims on %q", node)
				}
			}
			for node, victims := range args.NodeNameToMetaVictims {
				if victims == nil || slices.Contains(victims.Pods, nil) {
					t.Errorf("holes among the victims on %q", node)
				}
			}
			same(t, args, ReadPreemption)
		}
		if args, err := ReadBinding(body); err == nil {
			if slices.Contains([]string{args.PodName, args.PodNamespace, string(args.PodUID), args.Node}, "") {
				t.Errorf("something is empty: %+v", args)
			}
			same(t, args, ReadBinding)
		}
	})
}

// workable checks what filter and prioritize rely on.
func workable(t *testing.T, args *extenderv1.ExtenderArgs) {
	t.Helper()
	if args.Pod.Name == "" {
		t.Error("no name")
	}
	sane(t, args.Pod)
	var lists [][]string
	if args.NodeNames != nil {
		lists = append(lists, *args.NodeNames)
	}
	if args.Nodes != nil {
		lists = append(lists, nodeNames(args.Nodes))
	}
	if len(lists) == 0 {
		t.Error("no nodes in either form")
	}
	for _, names := range lists {
		sorted := slices.Sorted(slices.Values(names))
		if slices.Contains(names, "") || len(slices.Compact(sorted)) != len(names) {
			t.Errorf("empty or double names: %q", names)
		}
	}
}

// sane checks that what a node would be charged for the pod is what it asks for.
func sane(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	bare := &corev1.Pod{Spec: pod.Spec} // The status stays above.
	snapshot.Requests(bare).Each(func(name corev1.ResourceName, amount int64) {
		if amount < 0 || amount > most.Value()*1000 {
			t.Errorf("%d of %s", amount, name)
		}
	})
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for name, amount := range container.Resources.Requests {
			if amount.Sign() > 0 && snapshot.FromList(corev1.ResourceList{name: amount}).Get(name) <= 0 {
				t.Errorf("%s of %s counts as nothing", amount.String(), name)
			}
		}
	}
}

func nodeNames(nodes *corev1.NodeList) []string {
	names := []string{}
	for i := range nodes.Items {
		names = append(names, nodes.Items[i].Name)
	}
	return names
}

// same checks that what was decoded encodes, and decodes to the same.
func same[T any](t *testing.T, value T, decode func([]byte) (T, error)) {
	t.Helper()
	first := encode(t, value)
	again, err := decode([]byte(first))
	if err != nil {
		t.Fatalf("%s does not decode again: %v", first, err)
	}
	if diff := cmp.Diff(first, encode(t, again)); diff != "" {
		t.Errorf("decoded again:\n%s", diff)
	}
}

func encode(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
