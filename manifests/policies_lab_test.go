package manifests_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// who are those that write: an administrator, the kubelet of a worker, and accounts of ours.
type who struct{ admin, kubelet, virtualnode, extender, rebalance kubernetes.Interface }

func everybody(t *testing.T, l *lab.Lab) who {
	t.Helper()
	client := func(config *rest.Config) kubernetes.Interface {
		c, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	kubelet := l.Upper()
	kubelet.Impersonate = rest.ImpersonationConfig{UserName: "system:node:worker", Groups: []string{"system:masters"}}
	return who{
		admin: client(l.Upper()), kubelet: client(kubelet), virtualnode: client(l.UpperAs(lab.PartVirtualNode)),
		extender: client(l.UpperAs(lab.PartExtender)), rebalance: client(l.UpperAs(lab.PartRebalance)),
	}
}

// space makes a namespace with or without the label, and waits until pods can be created in it.
func space(t *testing.T, client kubernetes.Interface, enabled string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: label(enabled)}}
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}) })
	lab.Eventually(t, time.Minute, func() error {
		_, err := client.CoreV1().ServiceAccounts(ns.Name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

var marker = corev1.ResourceList{keys.PodResource: resource.MustParse("0")}

// marked is a pod as admission leaves it.
func marked(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{}, Annotations: map[string]string{keys.Sealed: `{"nodeSelector":{"pool":"mine"}}`},
		},
		Spec: corev1.PodSpec{
			Containers:  []corev1.Container{{Name: "c", Image: "pause", Resources: corev1.ResourceRequirements{Requests: marker, Limits: marker}}},
			Tolerations: []corev1.Toleration{{Key: keys.VirtualTaint, Operator: corev1.TolerationOpExists}},
		},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func gated(p *corev1.Pod) {
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/queue"}}
}

func virtual(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.Cluster: name}, Annotations: map[string]string{keys.Rules: "{}"}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}}},
	}
}

// attempt is something that somebody tries. by names the policy that has to deny it; "" if it has to be let through.
type attempt struct {
	by  string
	try func() error
}

func (a attempt) judge(t *testing.T) {
	t.Helper()
	switch err := a.try(); {
	case a.by == "" && err != nil:
		t.Errorf("refused: %v", err)
	case a.by != "" && err == nil:
		t.Errorf("let through, want %s to deny it", a.by)
	case a.by != "" && !strings.Contains(err.Error(), a.by):
		t.Errorf("denied by somebody else than %s: %v", a.by, err)
	}
}

func change(kind, key, value string) string {
	return fmt.Sprintf(`{"metadata":{%q:{%q:%s}}}`, kind, key, value)
}

// Whoever may write pods cannot have written for Tessera.
func TestNobodyForgesPods(t *testing.T) {
	l := shared.Get(t)
	by := everybody(t, l)
	in, out := space(t, by.admin, "true"), space(t, by.admin, "")
	for _, pod := range []*corev1.Pod{marked("p"), marked("q", gated)} {
		if _, err := by.admin.CoreV1().Pods(in).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch := func(c kubernetes.Interface, name, text string, sub ...string) func() error {
		return func() error {
			_, err := c.CoreV1().Pods(in).Patch(t.Context(), name, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{}, sub...)
			return err
		}
	}
	create := func(ns string, changes ...func(*corev1.Pod)) func() error {
		return func() error {
			_, err := by.admin.CoreV1().Pods(ns).Create(t.Context(), marked("new", changes...), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		}
	}
	bind := func(c kubernetes.Interface) func() error {
		return func() error {
			return c.CoreV1().Pods(in).Bind(t.Context(), &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{keys.HintNode: "n"}},
				Target:     corev1.ObjectReference{Kind: "Node", Name: "n"},
			}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		}
	}
	says := func(value string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Labels[keys.Enabled] = value } }
	const forged = `"{\"nodeSelector\":{\"pool\":\"theirs\"}}"`
	const frozen, mark, bound, binding, extender = "tessera-frozen", "tessera-marked", "tessera-bound", "tessera-binding", "tessera-extender"
	for name, a := range map[string]attempt{
		"the seal of a pending pod is rewritten":         {frozen, patch(by.admin, "p", change("annotations", keys.Sealed, forged))},
		"it is taken away":                               {frozen, patch(by.admin, "p", change("annotations", keys.Sealed, "null"))},
		"it is rewritten through the status":             {frozen, patch(by.admin, "p", change("annotations", keys.Sealed, forged), "status")},
		"it is rewritten by rebalance":                   {"cannot patch", patch(by.rebalance, "p", change("annotations", keys.Sealed, forged))},
		"that of a gated pod through the status":         {frozen, patch(by.admin, "q", change("annotations", keys.Sealed, "null"), "status")},
		"that of a gated pod, for the webhook to answer": {"", patch(by.admin, "q", change("annotations", keys.Sealed, forged))},
		"a fact is made up":                              {frozen, patch(by.admin, "p", change("annotations", keys.LowerIP, `"1.2.3.4"`))},
		"a pod opts out later":                           {frozen, patch(by.admin, "p", change("labels", keys.Enabled, `"false"`))},
		"a gated pod opts out later":                     {frozen, patch(by.admin, "q", change("labels", keys.Enabled, `"false"`))},
		"the marker is taken away":                       {"Forbidden: pod updates may not", patch(by.admin, "p", `{"spec":{"containers":[{"name":"c","resources":null}]}}`)},
		"keep is the users'":                             {"", patch(by.admin, "p", change("annotations", keys.Keep, `"true"`))},
		"so is what is not of tessera.sh":                {"", patch(by.admin, "p", change("annotations", "example.com/tessera.sh", `"x"`))},
		"virtualnode writes facts":                       {"", patch(by.virtualnode, "p", change("annotations", keys.LowerIP, `"10.0.0.1"`), "status")},
		"the extender wakes":                             {"", patch(by.extender, "p", change("annotations", keys.Wake, `"now"`))},
		"the extender rewrites a seal":                   {extender, patch(by.extender, "p", change("annotations", keys.Sealed, forged))},
		"the extender changes an image":                  {extender, patch(by.extender, "p", `{"spec":{"containers":[{"name":"c","image":"theirs"}]}}`)},
		"the extender changes a label":                   {extender, patch(by.extender, "p", change("labels", "app", `"theirs"`))},
		"a hint comes with somebody's binding":           {binding, bind(by.admin)},
		"a hint comes with the extender's binding":       {"", bind(by.extender)},
		"a mark where the namespace has opted in":        {"", create(in)},
		"where it has not":                               {mark, create(out)},
		"where the pod alone has":                        {mark, create(out, says("true"))},
		"where the pod has opted out":                    {mark, create(in, says("false"))},
		"in an init container's limits": {mark, create(out, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "pause", Resources: corev1.ResourceRequirements{Limits: marker}}}
		})},
		"no mark at all": {"", create(out, func(p *corev1.Pod) { p.Spec.Containers[0].Resources = corev1.ResourceRequirements{} })},
		"with a node":    {bound, create(in, func(p *corev1.Pod) { p.Spec.NodeName = "n" })},
		"no mark, with a node": {"", create(in, func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.Containers[0].Resources = "n", corev1.ResourceRequirements{}
		})},
	} {
		t.Run(name, a.judge)
	}
}

// The namespaces of the control plane never take part, whatever their labels.
func TestNobodyMarksSystemPods(t *testing.T) {
	by := everybody(t, shared.Get(t))
	text := []byte(change("labels", keys.Enabled, `"true"`))
	if _, err := by.admin.CoreV1().Namespaces().Patch(t.Context(), "kube-public", types.MergePatchType, text, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	attempt{"tessera-marked", func() error {
		_, err := by.admin.CoreV1().Pods("kube-public").Create(t.Context(), marked("new"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}}.judge(t)
}

// A node becomes virtual by virtualnode, and virtualnode has no other nodes.
func TestNobodyForgesNodes(t *testing.T) {
	by := everybody(t, shared.Get(t))
	for _, node := range []*corev1.Node{virtual("cluster"), {ObjectMeta: metav1.ObjectMeta{Name: "worker"}}} {
		owner := map[bool]kubernetes.Interface{true: by.virtualnode, false: by.kubelet}[node.Labels[keys.Cluster] != ""]
		if _, err := owner.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = by.admin.CoreV1().Nodes().Delete(context.Background(), node.Name, metav1.DeleteOptions{}) })
	}
	dry := []string{metav1.DryRunAll}
	patch := func(c kubernetes.Interface, name, text string, sub ...string) func() error {
		return func() error {
			_, err := c.CoreV1().Nodes().Patch(t.Context(), name, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{DryRun: dry}, sub...)
			return err
		}
	}
	create := func(c kubernetes.Interface, alter func(*corev1.Node)) func() error {
		return func() error {
			node := virtual("new")
			alter(node)
			_, err := c.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{DryRun: dry})
			return err
		}
	}
	remove := func(c kubernetes.Interface, name string) func() error {
		return func() error { return c.CoreV1().Nodes().Delete(t.Context(), name, metav1.DeleteOptions{DryRun: dry}) }
	}
	const taint = `{"spec":{"taints":[{"key":"` + keys.VirtualTaint + `","effect":"NoSchedule"}]}}`
	const nodes, account = "tessera-nodes", "tessera-virtualnode"
	for name, a := range map[string]attempt{
		"a kubelet labels its own node":            {nodes, patch(by.kubelet, "worker", change("labels", keys.Cluster, `"worker"`))},
		"through the status":                       {nodes, patch(by.kubelet, "worker", change("labels", keys.Cluster, `"worker"`), "status")},
		"it taints it":                             {nodes, patch(by.kubelet, "worker", taint)},
		"it makes up rules":                        {nodes, patch(by.kubelet, "worker", change("annotations", keys.Rules, `"{}"`))},
		"it registers as a virtual node":           {nodes, create(by.kubelet, func(*corev1.Node) {})},
		"with the taint alone":                     {nodes, create(by.kubelet, func(n *corev1.Node) { n.Labels, n.Annotations = nil, nil })},
		"it registers as what it is":               {"", create(by.kubelet, func(n *corev1.Node) { n.Labels, n.Annotations, n.Spec.Taints = nil, nil, nil })},
		"it labels itself otherwise":               {"", patch(by.kubelet, "worker", change("labels", "example.com/disk", `"ssd"`))},
		"it reports its status":                    {"", patch(by.kubelet, "worker", `{"status":{"phase":"Running"}}`, "status")},
		"the label of a virtual node is taken off": {nodes, patch(by.admin, "cluster", change("labels", keys.Cluster, "null"))},
		"its taint":                                {nodes, patch(by.admin, "cluster", `{"spec":{"taints":null}}`)},
		"it is cordoned":                           {"", patch(by.admin, "cluster", `{"spec":{"unschedulable":true}}`)},
		"another cluster is accepted":              {"", patch(by.admin, "cluster", change("annotations", keys.AcceptUID, `"u"`))},
		"it is deleted":                            {"", remove(by.admin, "cluster")},
		"virtualnode writes its own":               {"", patch(by.virtualnode, "cluster", change("annotations", keys.Refused, `"[]"`), "status")},
		"virtualnode registers one":                {"", create(by.virtualnode, func(*corev1.Node) {})},
		"under another name":                       {account, create(by.virtualnode, func(n *corev1.Node) { n.Labels[keys.Cluster] = "other" })},
		"virtualnode cordons a machine":            {account, patch(by.virtualnode, "worker", `{"spec":{"unschedulable":true}}`)},
		"virtualnode makes a machine virtual":      {account, patch(by.virtualnode, "worker", change("labels", keys.Cluster, `"worker"`))},
		"virtualnode deletes a machine":            {account, remove(by.virtualnode, "worker")},
		"virtualnode deletes its own":              {"", remove(by.virtualnode, "cluster")},
	} {
		t.Run(name, a.judge)
	}
}

// The marker is let through where the webhook puts it, by each choice of components.
func TestMarkedAsChosen(t *testing.T) {
	l := shared.Get(t)
	by := everybody(t, l)
	const yes, no, silent = "true", "false", ""
	spaces := map[string]string{}
	for _, says := range []string{yes, no, silent} {
		spaces[says] = space(t, by.admin, says)
	}
	policies := by.admin.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	choose := func(t *testing.T, components ...string) {
		t.Helper()
		spec := object[*admissionregistrationv1.ValidatingAdmissionPolicy](t, withComponents(t, components...),
			"ValidatingAdmissionPolicy", "tessera-marked").Spec
		lab.Eventually(t, time.Minute, func() error { // A controller writes its status meanwhile.
			now, err := policies.Get(t.Context(), "tessera-marked", metav1.GetOptions{})
			if err != nil {
				return err
			}
			now.Spec = spec
			_, err = policies.Update(t.Context(), now, metav1.UpdateOptions{})
			return err
		})
	}
	defer choose(t)
	for _, components := range [][]string{{"pod-opt-in", "everywhere"}, {"everywhere"}, {"pod-opt-in"}, nil} {
		t.Run(strings.Join(components, ","), func(t *testing.T) {
			choose(t, components...)
			hooks := object[*admissionregistrationv1.MutatingWebhookConfiguration](t, withComponents(t, components...),
				"MutatingWebhookConfiguration", "tessera").Webhooks
			lab.Eventually(t, time.Minute, func() error { // Until the API server has seen the change.
				for says, ns := range spaces {
					for _, pod := range []string{yes, no, silent} {
						_, err := by.admin.CoreV1().Pods(ns).Create(t.Context(), marked("new", func(p *corev1.Pod) { p.Labels = label(pod) }),
							metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
						want := marks(t, hooks, label(says, corev1.LabelMetadataName, ns), label(pod))
						if (err == nil) != want {
							return fmt.Errorf("namespace says %q, pod says %q: marked by the webhook: %t, by hand: %w", says, pod, want, err)
						}
					}
				}
				return nil
			})
		})
	}
}
