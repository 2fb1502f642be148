package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestRealFlatNetworks has one lab for all that is seen in flat networks.
func TestRealFlatNetworks(t *testing.T) {
	NeedNetworks(t)
	began := time.Now()
	l, err := Start(t.Context(), Options{
		Lower: 2, Networks: Flat, Log: os.Stderr, Parts: []string{PartVirtualNode},
		Config: map[string]map[string]any{PartVirtualNode: {"hint": "off"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	t.Logf("all ready after %.1f s, the check of this machine and builds included", time.Since(began).Seconds())
	t.Run("all", func(t *testing.T) { // ends when the parallel ones have ended, and so before the lab
		t.Run("service", func(t *testing.T) { t.Parallel(); serviceOfBoth(t, l) })
		t.Run("metrics", func(t *testing.T) { t.Parallel(); metricsOfPods(t, l) })
		t.Run("node proxy", func(t *testing.T) { t.Parallel(); reachesListener(t, l) })
		t.Run("parts", func(t *testing.T) { t.Parallel(); runsBelow(t, l) })
		t.Run("host port", func(t *testing.T) { t.Parallel(); hostPort(t, l) })
	})
}

// serviceOfBoth asks a Service of one cluster by its name until pods of both clusters have answered.
func serviceOfBoth(t *testing.T, l *Lab) {
	first, ns := namespace(t, l, 1)
	second, ns2 := namespace(t, l, 2)
	here, there := serving(t, first, ns, "here"), serving(t, second, ns2, "there")
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "both"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if _, err := first.CoreV1().Services(ns).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	name, port, yes := "http", int32(8080), true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "both", Labels: map[string]string{
			discoveryv1.LabelServiceName: "both", discoveryv1.LabelManagedBy: "test.tessera.sh",
		}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, pod := range []*corev1.Pod{here, there} {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{pod.Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: &yes},
		})
	}
	if _, err := first.DiscoveryV1().EndpointSlices(ns).Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var seen strings.Builder
	Eventually(t, patience, func() error {
		out, err := fetch(t.Context(), l, 1, ns, "here", "http://both/", "http://both."+ns+".svc.cluster.local/")
		seen.WriteString(out)
		if err == nil && (!strings.Contains(seen.String(), "here\n") || !strings.Contains(seen.String(), "there\n")) {
			err = fmt.Errorf("the answers are %q", seen.String())
		}
		return err
	})
	t.Logf("both clusters have answered %.1f s after the Service was there, %.1f s after the lab's start", time.Since(began).Seconds(), time.Since(l.begin).Seconds())
}

// serving runs a pod that answers HTTP, and waits until it does.
func serving(t *testing.T, client kubernetes.Interface, ns, name string, change ...func(*corev1.Container)) *corev1.Pod {
	t.Helper()
	main := corev1.Container{
		Name: "main", Image: realnode.Image, ImagePullPolicy: corev1.PullNever, Args: []string{"serve=8080", "wait"},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1, FailureThreshold: 60,
		},
	}
	for _, c := range change {
		c(&main)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{Containers: []corev1.Container{main}}}
	if _, err := client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 3*patience, func() (err error) {
		pod, err = client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && !isReady(pod) {
			err = fmt.Errorf("pod has status %+v", pod.Status)
		}
		return err
	})
	return pod
}

// fetch has a pod of a lower cluster ask for URLs, and gives what was answered.
func fetch(ctx context.Context, l *Lab, k int, ns, pod string, urls ...string) (string, error) {
	args := []string{"--kubeconfig=" + l.LowerKubeconfig(k), "exec", "--namespace=" + ns, pod, "--", "/payload"}
	for _, url := range urls {
		args = append(args, "fetch="+url)
	}
	return l.Kubectl(ctx, args...)
}

// metricsOfPods waits for the metrics API of both clusters.
func metricsOfPods(t *testing.T, l *Lab) {
	namespaces := map[int]string{}
	for k := 1; k <= 2; k++ {
		client, ns := namespace(t, l, k)
		serving(t, client, ns, "measured")
		namespaces[k] = ns
	}
	for k, ns := range namespaces {
		Eventually(t, 3*patience, func() error {
			data, err := l.clusters[k].client.CoreV1().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/namespaces", ns, "pods").DoRaw(t.Context())
			if err == nil && !strings.Contains(string(data), "measured") {
				err = fmt.Errorf("the API of metrics says %s", data)
			}
			return err
		})
		out, err := l.Kubectl(t.Context(), "--kubeconfig="+l.LowerKubeconfig(k), "top", "pods", "--namespace="+ns)
		if err != nil || !strings.Contains(out, "measured") {
			t.Errorf("kubectl top says %q: %v", out, err)
		}
		out, err = l.Kubectl(t.Context(), "--kubeconfig="+l.LowerKubeconfig(k), "get", "apiservice", "v1beta1.metrics.k8s.io",
			`--output=jsonpath={.status.conditions[?(@.type=="Available")].status}`)
		if err != nil || out != "True" {
			t.Errorf("the API of metrics is available: %q, %v", out, err)
		}
	}
	t.Logf("metrics %.1f s after the lab's start", time.Since(l.begin).Seconds())
}

// reachesListener asks a kubelet API through the upper API server: one that listens in the upper cluster's namespace, as that of
// virtual nodes does. A listener on loopback is refused.
func reachesListener(t *testing.T, l *Lab) {
	upper := l.upper()
	pair, err := tls.LoadX509KeyPair(upper.pki("kubelet.crt"), upper.pki("kubelet.key"))
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{l.Address(0).String(): "GET /hello", "127.0.0.1": "address not allowed"} {
		listener, err := l.Network(0).Listen("tcp", address+":0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %s for %s", r.Method, r.URL.Path, r.TLS.PeerCertificates[0].Subject.CommonName)
			}),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert},
		}
		go func() { _ = server.ServeTLS(listener, "", "") }() // ends with Close
		t.Cleanup(func() { server.Close() })
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "listener-"}}
		if node, err = upper.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		patch := fmt.Appendf(nil, `{"status":{"addresses":[{"type":"InternalIP","address":%q}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`,
			address, listener.Addr().(*net.TCPAddr).Port)
		if _, err := upper.client.CoreV1().Nodes().PatchStatus(t.Context(), node.Name, patch); err != nil {
			t.Fatal(err)
		}
		out, err := upper.client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/" + node.Name + "/proxy/hello").DoRaw(t.Context())
		if got := fmt.Sprintf("%s %v", out, err); !strings.Contains(got, want) {
			t.Errorf("the listener at %s: %s, want %q", address, got, want)
		}
	}
}

// runsBelow runs a pod through a virtual node: virtualnode, which is in the upper cluster's namespace, reaches both clusters.
func runsBelow(t *testing.T, l *Lab) {
	upper, ns := namespace(t, l, 0)
	opt := []byte(`{"metadata":{"labels":{"` + keys.Enabled + `":"true"}}}`)
	if _, err := upper.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, opt, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= 2; k++ {
		marked := corev1.ResourceList{keys.PodResource: resource.MustParse("0")}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: l.LowerName(k)}, Spec: corev1.PodSpec{
			NodeSelector: map[string]string{keys.Cluster: l.LowerName(k)},
			Tolerations:  []corev1.Toleration{{Key: keys.VirtualTaint, Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name: "main", Image: realnode.Image, ImagePullPolicy: corev1.PullNever, Args: []string{"wait"},
				Resources: corev1.ResourceRequirements{Requests: marked, Limits: marked},
			}},
		}}
		if _, err := upper.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for k := 1; k <= 2; k++ {
		Eventually(t, 3*patience, phaseIs(upper, ns, l.LowerName(k), corev1.PodRunning))
	}
	answer, err := http.Get(l.PartURL(PartVirtualNode) + "/readyz")
	if err != nil {
		t.Fatalf("asking the part from outside: %v", err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
		t.Errorf("asking the part from outside: %s, %q, %v", answer.Status, body, err)
	}
}

// hostPort asks a pod at a port of its node, from a pod of the other cluster.
func hostPort(t *testing.T, l *Lab) {
	first, ns := namespace(t, l, 1)
	second, ns2 := namespace(t, l, 2)
	serving(t, first, ns, "served", func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 18080}} })
	serving(t, second, ns2, "asks")
	Eventually(t, patience, func() error {
		out, err := fetch(t.Context(), l, 2, ns2, "asks", fmt.Sprintf("http://%s:18080/", l.Address(1)))
		if err == nil && out != "served\n" {
			err = fmt.Errorf("the answer is %q", out)
		}
		return err
	})
}
