package admission_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

const patience = time.Minute

var (
	options = lab.Options{UpperNodes: 1, Parts: []string{lab.PartAdmission}}
	shared  = lab.NewShared(options)
)

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

func clientOf(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// namespace makes a namespace for one test, opted in or not, and waits until pods can be created in it.
func namespace(t *testing.T, client kubernetes.Interface, enabled bool) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if enabled {
		ns.Labels = map[string]string{keys.Enabled: "true"}
	}
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // The lab ends anyway, so an error does no harm.
		_ = client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{})
	})
	lab.Eventually(t, patience, func() error {
		_, err := client.CoreV1().ServiceAccounts(ns.Name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// opt writes the label by which a namespace opts in or out, as JSON.
func opt(t *testing.T, client kubernetes.Interface, namespace, value string) {
	t.Helper()
	label := []byte(`{"metadata":{"labels":{"` + keys.Enabled + `":` + value + `}}}`)
	if _, err := client.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func pod(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "p-", Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "pause"}}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func labelled(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels[keys.Enabled] = value }
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func tolerating(t corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, t) }
}

// owned has the pod belong to a controller that is not there.
func owned(kind string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "x", UID: "x", Controller: new(true)}}
	}
}

var everything = corev1.Toleration{Operator: corev1.TolerationOpExists}

// clusterTerms are the operators with which the pod's terms ask about tessera.sh/cluster.
func clusterTerms(spec *corev1.PodSpec) (operators []corev1.NodeSelectorOperator) {
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return nil
	}
	for _, term := range spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, e := range term.MatchExpressions {
			if e.Key == keys.Cluster {
				operators = append(operators, e.Operator)
			}
		}
	}
	return operators
}

// TestWebhook has the API server ask about pods of all sorts, in dry runs, and looks at what it makes of them.
func TestWebhook(t *testing.T) {
	client := clientOf(t, shared.Get(t).Upper())
	in, out := namespace(t, client, true), namespace(t, client, false)
	const marked, kept, alone = "Exists", "DoesNotExist", ""
	cases := map[string]struct {
		namespace string
		pod       *corev1.Pod
		want      string
	}{
		"opted-in namespace":                  {in, pod(), marked},
		"a pod that opts out":                 {in, pod(labelled("false")), alone},
		"a pod that opts in elsewhere":        {out, pod(labelled("true")), alone},
		"a pod with a node":                   {in, pod(func(p *corev1.Pod) { p.Spec.NodeName = "upper-node-0001" }), alone},
		"of a DaemonSet":                      {in, pod(owned("DaemonSet")), alone},
		"of a ReplicaSet":                     {in, pod(owned("ReplicaSet")), marked},
		"any pod":                             {out, pod(), alone},
		"tolerates everything, ours":          {in, pod(tolerating(everything)), marked},
		"tolerates everything, opts out":      {in, pod(tolerating(everything), labelled("false")), kept},
		"tolerates everything":                {out, pod(tolerating(everything)), kept},
		"tolerates everything in kube-system": {"kube-system", pod(tolerating(everything)), kept},
		"tolerates every NoSchedule":          {out, pod(tolerating(corev1.Toleration{Operator: "Exists", Effect: "NoSchedule"})), kept},
		"tolerates every NoExecute":           {out, pod(tolerating(corev1.Toleration{Operator: "Exists", Effect: "NoExecute"})), alone},
		"tolerates one virtual node":          {out, pod(tolerating(corev1.Toleration{Key: keys.VirtualTaint, Value: "a"})), kept},
		"tolerates something else":            {out, pod(tolerating(corev1.Toleration{Key: "gpu", Operator: "Exists"})), alone},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := client.CoreV1().Pods(test.namespace).Create(t.Context(), test.pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				t.Fatal(err)
			}
			var want []corev1.NodeSelectorOperator
			if test.want != alone {
				want = []corev1.NodeSelectorOperator{corev1.NodeSelectorOperator(test.want)}
			}
			if diff := cmp.Diff(want, clusterTerms(&got.Spec)); diff != "" {
				t.Error(diff)
			}
			quantity, set := got.Spec.Containers[0].Resources.Requests[keys.PodResource]
			if set != (test.want == marked) || !quantity.IsZero() {
				t.Errorf("requests %s: %v %s", keys.PodResource, set, quantity.String())
			}
			if _, sealed := got.Annotations[keys.Sealed]; sealed != (test.want == marked) {
				t.Errorf("sealed: %v", sealed)
			}
		})
	}
}

func TestDenied(t *testing.T) {
	client := clientOf(t, shared.Get(t).Upper())
	in := namespace(t, client, true)
	for key, p := range map[string]*corev1.Pod{
		keys.Policy:   pod(annotated(keys.Policy, "maybe")),
		keys.Sealed:   pod(annotated(keys.Sealed, "{")),
		keys.HintGate: pod(func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: keys.HintGate}} }),
	} {
		_, err := client.CoreV1().Pods(in).Create(t.Context(), p, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: error %v", key, err)
		}
	}
}

// TestTemplate creates a DaemonSet that tolerates everything, updates one that begins to, and has both run on the real
// node alone although there is a virtual one.
func TestTemplate(t *testing.T) {
	l := shared.Get(t)
	client := clientOf(t, l.Upper())
	virtualNode(t, l, "cluster-a")
	for name, enabled := range map[string]bool{"opted-in namespace": true, "another namespace": false} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, client, enabled)
			sets := client.AppsV1().DaemonSets(ns)
			labels := map[string]string{"app": "logs"}
			set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "logs"}, Spec: appsv1.DaemonSetSpec{
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod(tolerating(everything)).Spec},
			}}
			created, err := sets.Create(t.Context(), set, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want := []corev1.NodeSelectorOperator{corev1.NodeSelectorOpDoesNotExist}
			if diff := cmp.Diff(want, clusterTerms(&created.Spec.Template.Spec)); diff != "" {
				t.Errorf("created:\n%s", diff)
			}
			lab.Eventually(t, patience, func() error { return runsOn(t, client, ns, l.NodeName(0, 1)) })

			set.Name, set.Spec.Template.Spec.Tolerations = "later", nil
			if _, err := sets.Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			lab.Eventually(t, patience, func() error {
				later, err := sets.Get(t.Context(), "later", metav1.GetOptions{})
				if err != nil {
					return err
				}
				if got := clusterTerms(&later.Spec.Template.Spec); got != nil && later.Spec.Template.Spec.Tolerations == nil {
					t.Fatalf("a template without tolerations was changed: %v", got)
				}
				later.Spec.Template.Spec.Tolerations = []corev1.Toleration{everything}
				updated, err := sets.Update(t.Context(), later, metav1.UpdateOptions{})
				if err == nil && !cmp.Equal(want, clusterTerms(&updated.Spec.Template.Spec)) {
					t.Fatalf("updated: %v", clusterTerms(&updated.Spec.Template.Spec))
				}
				return err
			})
		})
	}
}

// runsOn reports why the namespace's DaemonSet does not have its only pod running on that node.
func runsOn(t *testing.T, client kubernetes.Interface, ns, node string) error {
	t.Helper()
	pods, err := client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(pods.Items) != 1 {
		return fmt.Errorf("%d pods", len(pods.Items))
	}
	if p := pods.Items[0]; p.Spec.NodeName != node || p.Status.Phase != corev1.PodRunning {
		return fmt.Errorf("on %q, %s", p.Spec.NodeName, p.Status.Phase)
	}
	return nil
}

// virtualNode makes a ready node that looks like a virtual one to the scheduler and to DaemonSets.
func virtualNode(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	client := clientOf(t, l.UpperAs(lab.PartVirtualNode)) // Nobody else may make one.
	_, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.Cluster: name}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: keys.VirtualTaint, Value: name, Effect: corev1.TaintEffectNoSchedule}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}) })
	ready := []byte(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`)
	if _, err := client.CoreV1().Nodes().PatchStatus(t.Context(), name, ready); err != nil {
		t.Fatal(err)
	}
}

// system has every namespace opted in, and then makes a Deployment in one of those that must never depend on admission. Its pod has to
// come, and to stay as it was.
func system(t *testing.T, client kubernetes.Interface, ns, name string) {
	t.Helper()
	lists, err := client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range lists.Items {
		opt(t, client, each.Name, `"true"`)
	}
	labels, template := map[string]string{"app": name}, pod()
	template.Spec.SecurityContext = &corev1.PodSecurityContext{ // As tessera-system demands.
		RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	_, err = client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template.Spec},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, func() error {
		pods, err := client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil || len(pods.Items) != 1 {
			return fmt.Errorf("%d pods of %s/%s, %w", len(pods.Items), ns, name, err)
		}
		if p := pods.Items[0]; clusterTerms(&p.Spec) != nil || p.Annotations[keys.Sealed] != "" {
			t.Errorf("the pod of %s/%s is marked", ns, name)
		}
		return nil
	})
}

// TestDead stops admission: what opted in has to wait for it, nothing else may notice, least of all what the cluster lives of.
func TestDead(t *testing.T) {
	t.Parallel()
	lab.Need(t)
	own := options
	own.Log = os.Stderr
	l, err := lab.Start(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	client := clientOf(t, l.Upper())
	in, out := namespace(t, client, true), namespace(t, client, false)
	deployed := map[string]string{"dns": metav1.NamespaceSystem, "admission": keys.Namespace}
	for name, ns := range deployed {
		system(t, client, ns, name)
	}
	opt(t, client, out, "null")
	if err := l.StopPart(lab.PartAdmission); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Pods(in).Create(t.Context(), pod(), metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "mark.tessera.sh") {
		t.Errorf("a pod that opted in: error %v", err)
	}
	for name, p := range map[string]*corev1.Pod{"any pod": pod(), "a pod that tolerates everything": pod(tolerating(everything))} {
		start := time.Now()
		if _, err := client.CoreV1().Pods(out).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: created in %s", name, time.Since(start).Round(time.Millisecond))
	}
	for name, ns := range deployed {
		system(t, client, ns, name+"-next")
	}
	if err := l.StartPart(t.Context(), lab.PartAdmission); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, func() error {
		_, err := client.CoreV1().Pods(in).Create(t.Context(), pod(), metav1.CreateOptions{})
		return err
	})
}
