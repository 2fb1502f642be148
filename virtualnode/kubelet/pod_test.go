package kubelet

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// upperPod is one with a container c, bound to virtual node v.
func upperPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{
			NodeName: "v", Containers: []corev1.Container{{Name: "c"}}, InitContainers: []corev1.Container{{Name: "init"}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debugger"}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

// lowerOf is the pod below that stands for an upper one.
func lowerOf(upper *corev1.Pod, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "t-" + upper.Namespace, Name: upper.Name, Labels: map[string]string{keys.Upper: "us", keys.VirtualNode: "v"},
		Annotations: map[string]string{
			keys.UpperUID: string(upper.UID), keys.UpperNamespace: upper.Namespace, keys.UpperName: upper.Name,
		},
	}}
	for _, c := range change {
		c(pod)
	}
	return pod
}

// caches are filled with pods, of which lower ones are told by their labels.
func caches(t *testing.T, all ...*corev1.Pod) (above, below cache.Indexer) {
	t.Helper()
	above = cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	below = cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{pair.ByUpper: pair.IndexByUpper})
	for _, pod := range all {
		into := above
		if pod.Labels[keys.Upper] != "" {
			into = below
		}
		if err := into.Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	return above, below
}

func TestWhichPod(t *testing.T) {
	t.Parallel()
	upper := upperPod("p")
	stranger := func(change func(*corev1.Pod)) []*corev1.Pod { return []*corev1.Pod{upper, lowerOf(upper, change)} }
	logs := call{kind: Logs, namespace: "a", pod: "p", container: "c"}
	with := func(change func(*call)) call { c := logs; change(&c); return c }
	gone := `404 pod "p" does not exist: it has gone from lower cluster "v", and its logs with it`
	for name, c := range map[string]struct {
		pods []*corev1.Pod
		call call
		want string
	}{
		"found":                {[]*corev1.Pod{upper, lowerOf(upper)}, logs, "t-a/p"},
		"init container":       {[]*corev1.Pod{upper, lowerOf(upper)}, with(func(c *call) { c.container = "init" }), "t-a/p"},
		"ephemeral container":  {[]*corev1.Pod{upper, lowerOf(upper)}, with(func(c *call) { c.container = "debugger" }), "t-a/p"},
		"the UID":              {[]*corev1.Pod{upper, lowerOf(upper)}, with(func(c *call) { c.uid = upper.UID }), "t-a/p"},
		"no container named":   {[]*corev1.Pod{upper, lowerOf(upper)}, with(func(c *call) { c.kind, c.container = PortForward, "" }), "t-a/p"},
		"another UID":          {[]*corev1.Pod{upper, lowerOf(upper)}, with(func(c *call) { c.uid = "other" }), `404 pod "p" does not exist`},
		"unknown":              {nil, logs, `404 pod "p" does not exist`},
		"unknown, exec":        {nil, with(func(c *call) { c.kind = Exec }), "404 pod does not exist"},
		"of another namespace": {[]*corev1.Pod{upper, lowerOf(upper)}, with(func(c *call) { c.namespace = "t-a" }), `404 pod "p" does not exist`},
		"on another node": {[]*corev1.Pod{upperPod("p", func(p *corev1.Pod) { p.Spec.NodeName = "w" }), lowerOf(upper)}, logs,
			`404 pod "p" does not exist`},
		"unknown container": {[]*corev1.Pod{upper, lowerOf(upper)}, with(func(c *call) { c.container = "d" }), `404 container "d" not found in pod "p"`},
		"unknown container, exec": {[]*corev1.Pod{upper, lowerOf(upper)}, with(func(c *call) { c.kind, c.container = Exec, "d" }),
			`404 container not found ("d")`},
		"not below yet": {[]*corev1.Pod{upperPod("p", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending })}, logs,
			`400 container "c" in pod "p" is waiting to start: the pod is not in lower cluster "v" yet`},
		"gone below":            {[]*corev1.Pod{upper}, logs, gone},
		"an earlier one's":      {stranger(func(p *corev1.Pod) { p.Annotations[keys.UpperUID] = "earlier" }), logs, gone},
		"of another upper":      {stranger(func(p *corev1.Pod) { p.Labels[keys.Upper] = "them" }), logs, gone},
		"of another node":       {stranger(func(p *corev1.Pod) { p.Labels[keys.VirtualNode] = "w" }), logs, gone},
		"that says it is other": {stranger(func(p *corev1.Pod) { p.Annotations[keys.UpperName] = "q" }), logs, gone},
	} {
		above, below := caches(t, c.pods...)
		found, err := (&pods{"v", "us", above, below}).find(&c.call)
		got := ""
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			got = fmt.Sprintf("%d %s", refused.code, refused.text)
		} else {
			got = found.Namespace + "/" + found.Name
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
