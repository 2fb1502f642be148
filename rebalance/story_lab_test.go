package rebalance_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestWhoMaySeeThePlan asks over TLS without a token, with one that has no right, and with the shipped role.
func TestWhoMaySeeThePlan(t *testing.T) {
	w := newWorld(t)
	config := w.config(t)
	ca, err := os.ReadFile(config.ExtenderCAFile) // Signs every part of the lab.
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	token, err := os.ReadFile(config.ExtenderTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, token string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+config.Listen+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
		}
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	for _, path := range []string{"/debug/plan", "/metrics"} {
		for token, want := range map[string]int{"": http.StatusUnauthorized, "wrong": http.StatusUnauthorized, string(token): http.StatusForbidden} {
			if got := get(path, token); got != want {
				t.Errorf("%s with token %.5q: %d, want %d", path, token, got, want)
			}
		}
	}
	if got := get("/readyz", ""); got != http.StatusOK {
		t.Errorf("/readyz: %d", got)
	}
	_, err = w.client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "tessera-view"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: keys.Namespace, Name: "tessera-rebalance"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, func() error { // A refusal is remembered for 10 s.
		if got := get("/debug/plan", string(token)); got != http.StatusOK {
			return fmt.Errorf("with the role tessera-view: %d", got)
		}
		return nil
	})
}

// TestStory runs all parts. Somebody takes a lower node behind the extender's back while a pod is on its way there; the
// pod has to end up running in the other cluster.
func TestStory(t *testing.T) {
	t.Parallel()
	lab.Need(t)
	shape := func(cluster int, cpu string) lab.Shape {
		return lab.Shape{Cluster: cluster, Count: 1, Resources: resources(cpu)}
	}
	l, err := lab.Start(t.Context(), lab.Options{
		Lower: 2, Nodes: 1, Parts: lab.Parts, Log: os.Stderr,
		Shapes: []lab.Shape{shape(1, "4"), shape(2, "8")}, // The tightest fit is lower-1.
		Config: map[string]map[string]any{lab.PartRebalance: {"interval": "1s", "stuckAfter": "1s"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	upper, lower := kubernetes.NewForConfigOrDie(l.Upper()), kubernetes.NewForConfigOrDie(l.Lower(1))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{keys.Enabled: "true"}}}
	if _, err := upper.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scheduler := l.Process(l.LowerName(1) + "/kube-scheduler")
	scheduler.Kill()
	deploy(t, upper)
	lab.Eventually(t, patience, func() error { return on(t, upper, l.LowerName(1), corev1.PodPending) })
	lab.Eventually(t, patience, func() error {
		pods, err := lower.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{})
		if err == nil && len(pods.Items) == 0 {
			err = errors.New("no pod below yet")
		}
		return err
	})
	if _, err := lower.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "intruder"},
		Spec:       corev1.PodSpec{NodeName: l.NodeName(1, 1), Containers: []corev1.Container{container("3")}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// A new scheduler lists the intruder before it looks at the pod; one that was only stopped might see the pod first.
	if err := scheduler.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	lab.Eventually(t, 2*patience, func() error { return on(t, upper, l.LowerName(2), corev1.PodRunning) })
	t.Logf("runs in the other cluster %s after the node was taken", time.Since(start).Round(100*time.Millisecond))
}

// on reports why the only pod of shop that is not leaving is not on that virtual node in that phase.
func on(t *testing.T, client kubernetes.Interface, node string, phase corev1.PodPhase) error {
	t.Helper()
	pods, err := client.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	var seen []string
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && p.Spec.NodeName == node && p.Status.Phase == phase {
			return nil
		}
		seen = append(seen, fmt.Sprintf("%s on %q %s %v", p.Name, p.Spec.NodeName, p.Status.Phase, p.Status.Conditions))
	}
	return fmt.Errorf("no pod is %s on %s: %q", phase, node, seen)
}

func resources(cpu string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("20"),
	}
}

func container(cpu string) corev1.Container {
	return corev1.Container{Name: "c", Image: "pause", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
	}}
}

func deploy(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	lab.Eventually(t, patience, func() error {
		_, err := client.AppsV1().Deployments("shop").Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec: appsv1.DeploymentSpec{
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{container("3")}},
				},
			},
		}, metav1.CreateOptions{})
		return err
	})
}
