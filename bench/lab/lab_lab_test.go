package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

const patience = time.Minute

// shared is the lab of the tests that break nothing.
var shared = NewShared(Options{
	Lower: 2, Nodes: 4, UpperNodes: 1,
	Holes: func(cluster, node int) (corev1.ResourceList, bool) {
		return list("cpu", fmt.Sprint(node), "memory", "4Gi"), cluster == 2
	},
})

func TestMain(m *testing.M) {
	if args := os.Getenv("LAB_TEST_ARGS"); args != "" { // this binary plays `bench lab` for the tests in command_lab_test.go
		command := NewCommand()
		command.SetArgs(strings.Split(args, "\n"))
		command.SilenceUsage = true
		if command.Execute() != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(shared.Run(m))
}

// namespace makes a namespace for one test in a cluster.
func namespace(t *testing.T, l *Lab, k int) (kubernetes.Interface, string) {
	t.Helper()
	client := l.clusters[k].client
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}) // the lab ends anyway
	})
	Eventually(t, patience, func() error {
		_, err := client.CoreV1().ServiceAccounts(ns.Name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return client, ns.Name
}

func podSpec(cpu string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "app", Resources: corev1.ResourceRequirements{Requests: list("cpu", cpu)}}}}
}

func TestVersions(t *testing.T) {
	l := shared.Get(t)
	for _, c := range l.clusters {
		version, err := c.client.Discovery().ServerVersion()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(KubernetesVersion, "v"+version.Major+"."+version.Minor+".") || version.GitVersion != KubernetesVersion {
			t.Errorf("%s reports %+v", c.name, version)
		}
	}
	out, err := l.Kubectl(t.Context(), "version")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "Client Version: "+KubernetesVersion) || !strings.Contains(out, "Server Version: "+KubernetesVersion) {
		t.Errorf("kubectl version says %s", out)
	}
}

// TestNodes checks that all nodes are Ready, of the default shape, and that a pod is bound in each cluster.
func TestNodes(t *testing.T) {
	l := shared.Get(t)
	for k, want := range []int{1, 4, 4} {
		client, ns := namespace(t, l, k)
		nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes.Items) != want {
			t.Errorf("%s has %d nodes, want %d", l.clusters[k].name, len(nodes.Items), want)
		}
		if _, err := client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: podSpec("1")}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		Eventually(t, patience, phaseIs(client, ns, "p", corev1.PodRunning))
		t.Logf("%s: a pod was running after %s", l.clusters[k].name, time.Since(begin).Round(time.Millisecond))
	}
}

// TestNodeAnnotations makes a node of the test's own: KWOK plays it too, and annotations change what it reports.
func TestNodeAnnotations(t *testing.T) {
	l := shared.Get(t)
	nodes, ctx := l.clusters[1].client.CoreV1().Nodes(), t.Context()
	if _, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "own", Labels: map[string]string{"own": "true"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nodes.Delete(context.Background(), "own", metav1.DeleteOptions{}) }) // the lab ends anyway
	readyIs := func(want corev1.ConditionStatus) {
		t.Helper()
		Eventually(t, patience, func() error {
			node, err := nodes.Get(ctx, "own", metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range node.Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status == want && node.Status.Allocatable.Cpu().Value() == 16 {
					return nil
				}
			}
			return fmt.Errorf("node status is %+v, want Ready %s", node.Status, want)
		})
	}
	readyIs(corev1.ConditionTrue)
	for _, step := range []struct {
		annotations string
		want        corev1.ConditionStatus
	}{{`{"lab.tessera.sh/not-ready":"true"}`, corev1.ConditionFalse}, {`null`, corev1.ConditionTrue}} {
		patch := fmt.Sprintf(`{"metadata":{"annotations":%s}}`, step.annotations)
		if _, err := nodes.Patch(ctx, "own", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		readyIs(step.want)
	}
}

func phaseIs(client kubernetes.Interface, ns, name string, want corev1.PodPhase) func() error {
	return func() error {
		pod, err := client.CoreV1().Pods(ns).Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if pod.Status.Phase != want {
			return fmt.Errorf("pod %s is %s, want %s (%+v)", name, pod.Status.Phase, want, pod.Status.Conditions)
		}
		return nil
	}
}

// TestHoles checks that exactly the asked room is left: the largest pod that fits runs, a larger one does not.
func TestHoles(t *testing.T) {
	client, ns := namespace(t, shared.Get(t), 2)
	for name, cpu := range map[string]string{"fits": "4", "toolarge": "4100m"} {
		if _, err := client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: podSpec(cpu)}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	Eventually(t, patience, phaseIs(client, ns, "fits", corev1.PodRunning))
	Eventually(t, patience, func() error {
		pod, err := client.CoreV1().Pods(ns).Get(t.Context(), "toolarge", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
				return nil
			}
		}
		return fmt.Errorf("the pod that fits nowhere has status %+v", pod.Status)
	})
}

// TestWorkloads covers the controllers that the lab promises: deployments, services, garbage collection, namespaces, evictions.
func TestWorkloads(t *testing.T) {
	client, ns := namespace(t, shared.Get(t), 1)
	ctx, labels, replicas := t.Context(), map[string]string{"app": "web"}, int32(3)
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec("10m")},
	}}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80}}}}
	three := intstr.FromInt32(3)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: &three, Selector: &metav1.LabelSelector{MatchLabels: labels},
	}}
	if _, err := client.AppsV1().Deployments(ns).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Services(ns).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PolicyV1().PodDisruptionBudgets(ns).Create(ctx, budget, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, patience, webWorks(client, ns))
	pods, err := client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pods.Items[0].Name, Namespace: ns}}
	if err := client.CoreV1().Pods(ns).EvictV1(ctx, eviction); !apierrors.IsTooManyRequests(err) {
		t.Errorf("evicting against the budget gave %v, want too many requests", err)
	}
	if err := client.AppsV1().Deployments(ns).Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, patience, noPods(client, ns, ""))
	if err := client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, patience, gone(func() error {
		_, err := client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return err
	}))
}

// webWorks tells what is missing until the deployment, its service and its budget of TestWorkloads work.
func webWorks(client kubernetes.Interface, ns string) func() error {
	ctx := context.Background()
	return func() error {
		d, err := client.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		slices, err := client.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
		if err != nil {
			return err
		}
		endpoints := 0
		for _, s := range slices.Items {
			endpoints += len(s.Endpoints)
		}
		p, err := client.PolicyV1().PodDisruptionBudgets(ns).Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.AvailableReplicas != 3 || endpoints != 3 || p.Status.CurrentHealthy != 3 {
			return fmt.Errorf("%d of 3 pods are available, %d endpoints, budget %+v", d.Status.AvailableReplicas, endpoints, p.Status)
		}
		return nil
	}
}

// noPods tells as an error how many pods there still are.
func noPods(client kubernetes.Interface, ns, selector string) func() error {
	return func() error {
		pods, err := client.CoreV1().Pods(ns).List(context.Background(), metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		if len(pods.Items) > 0 {
			return fmt.Errorf("%d pods are left, among them %s", len(pods.Items), pods.Items[0].Name)
		}
		return nil
	}
}

// gone succeeds when get answers NotFound.
func gone(get func() error) func() error {
	return func() error {
		err := get()
		if err == nil {
			return errors.New("it is still there")
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
}

// TestAccounts checks that the registry's kubeconfig has the rights of the manifests and no more.
func TestAccounts(t *testing.T) {
	l := shared.Get(t)
	file := l.dir + "/clusters/lower-1.kubeconfig"
	for verb, want := range map[string]string{"create pods": "yes", "list nodes": "yes", "delete nodes": "no", "delete deployments": "no"} {
		args := append([]string{"--kubeconfig", file, "auth", "can-i"}, strings.Fields(verb)...)
		out, _ := l.Kubectl(t.Context(), args...) // "no" is also exit code 1
		if lines := strings.Fields(out); len(lines) == 0 || lines[len(lines)-1] != want {
			t.Errorf("may the account %s? kubectl says %q, want %s", verb, out, want)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %s, want 0600", file, info.Mode())
	}
}
