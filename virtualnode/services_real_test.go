package virtualnode_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

// fetches has a pod of lower cluster k ask for a URL until the answer is that.
func (w *world) fetches(k int, pod, url, want string) {
	w.Helper()
	w.eventually(func() error {
		out, err := w.lab.Kubectl(w.Context(), "--kubeconfig="+w.lab.LowerKubeconfig(k), "exec", "--namespace="+w.ns, pod, "--", "/payload", "fetch="+url)
		if got := strings.TrimSpace(out); (err == nil) != (want != "") || err == nil && got != want {
			return errors.Join(fmt.Errorf("%s answers %q, want %q", url, got, want), err)
		}
		return nil
	})
}

// answering is a pod that answers HTTP with its name, for as long as the file /unready is not there.
func answering(p *corev1.Pod) {
	doing("serve=8080", "wait")(p)
	p.Spec.Containers[0].ReadinessProbe = probe(8080)
}

// A pod of one cluster fetches by the name of a Service from a pod of another, loses it when that has gone, and finds the pod of a
// StatefulSet by its own name.
func TestRealServices(t *testing.T) {
	w := newNetworkedWorld(t)
	t.Parallel()
	w.service("web", func(s *corev1.Service) { s.Spec.Ports[0].TargetPort.StrVal = "web" })
	w.service("db", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	w.create(w.pod("client", 1, answering))
	w.create(w.pod("server", 2, answering, listening("web", 8080)))
	w.create(w.pod("db-0", 2, answering, listening("db", 8080), func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "db-0", "db" }))
	for _, name := range []string{"client", "server", "db-0"} {
		w.becomes(w.upper, name, "Ready", isReady)
	}
	w.fetches(1, "client", "http://web/", "server")
	w.fetches(1, "client", "http://web."+w.ns+".svc.cluster.local/", "server")
	w.fetches(1, "client", "http://db-0.db:8080/", "db-0")
	w.fetches(2, "db-0", "http://web/", "server")
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "server", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.fetches(1, "client", "http://web/", "")
}

// The application of testdata becomes ready over two clusters, a change is rolled out, and its deletion leaves nothing below.
func TestRealApplication(t *testing.T) {
	w := newNetworkedWorld(t)
	t.Parallel()
	w.patience *= 2
	text, err := os.ReadFile("testdata/application.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "application.yaml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer("NAMESPACE", w.ns, "IMAGE", realnode.Image).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := w.lab.Kubectl(t.Context(), append([]string{"--kubeconfig=" + w.lab.UpperKubeconfig(), "--namespace=" + w.ns}, args...)...)
		if err != nil {
			t.Fatalf("kubectl %v: %v", args, err)
		}
		return out
	}
	kubectl("apply", "-f", file)
	kubectl("rollout", "status", "deployment/web", "--timeout=3m")
	kubectl("rollout", "status", "statefulset/db", "--timeout=3m")
	kubectl("create", "job", "report", "--from=cronjob/report")
	kubectl("wait", "--for=condition=complete", "job/report", "--timeout=2m")

	kubectl("create", "configmap", "extra", "--from-literal=a=b")
	kubectl("patch", "configmap", "web", "--type=merge", "--patch={\"data\":{\"greeting\":\"good bye\"}}")
	kubectl("rollout", "restart", "deployment/web")
	kubectl("rollout", "status", "deployment/web", "--timeout=3m")
	below, err := w.lower(1).CoreV1().ConfigMaps(w.ns).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || below.Data["greeting"] != "good bye" {
		t.Errorf("the ConfigMap below is %v, %v", below, err)
	}

	kubectl("delete", "-f", file, "--wait=true", "--timeout=2m")
	if err := w.upper.CoreV1().Namespaces().Delete(t.Context(), w.ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []int{1, 2} {
		w.eventually(func() error {
			_, err := w.lower(k).CoreV1().Namespaces().Get(t.Context(), w.ns, metav1.GetOptions{})
			if err == nil {
				out, _ := w.lab.Kubectl(t.Context(), "--kubeconfig="+w.lab.LowerKubeconfig(k), "get", "all,configmaps,secrets,networkpolicies,endpointslices,resourcequota", "--namespace="+w.ns)
				return fmt.Errorf("the namespace is still in cluster %d: %s", k, out)
			}
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
}
