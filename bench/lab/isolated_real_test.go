package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// TestRealIsolatedNetworks runs `bench lab up` as people do, looks at what passes and what does not, and kills it: nothing is left, and
// the machine's own network has never changed.
func TestRealIsolatedNetworks(t *testing.T) {
	NeedNetworks(t)
	before := machine(t)
	dir := t.TempDir()
	up := startCommand(t, "up", "--dir="+dir, "--lower=2", "--networks=isolated", "--parts=none", "--upper-nodes=0")
	up.says(t, "stop: ")
	l := outsider(t, dir)
	isolated(t, l)
	if diff := cmp.Diff(before, machine(t)); diff != "" {
		t.Errorf("the machine's own network has changed (-before +while the lab runs):\n%s", diff)
	}
	if err := left(dir, up.cmd.Process.Pid, "cgroups"); err == nil {
		t.Error("no cgroup is there while the nodes run: this test looks for the wrong ones")
	}
	spaces := namespaces(t)
	if err := up.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-up.done
	killed := time.Now()
	Eventually(t, patience, func() error {
		now := namespaces(t)
		for _, place := range l.places.Clusters {
			if _, err := os.Stat(place.Namespace); err == nil || now[l.space[place.Name]] {
				return fmt.Errorf("of %v the namespace of %s is left", spaces, place.Name)
			}
		}
		return errors.Join(left(dir, up.cmd.Process.Pid, "processes"), left(dir, up.cmd.Process.Pid, "cgroups"), left(dir, up.cmd.Process.Pid, "watch"))
	})
	t.Logf("nothing is left %.1f s after the kill", time.Since(killed).Seconds())
	if diff := cmp.Diff(before, machine(t)); diff != "" {
		t.Errorf("the machine's own network has changed (-before +after the lab):\n%s", diff)
	}
}

// isolated looks at what passes between isolated clusters, and inside one.
func isolated(t *testing.T, l *outside) {
	t.Helper()
	var pods []*corev1.Pod
	for k, client := range l.lower {
		ns := fmt.Sprintf("test-%d", k+1)
		if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		Eventually(t, patience, func() error {
			_, err := client.CoreV1().ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
			return err
		})
		pods = append(pods, serving(t, client, ns, fmt.Sprintf("pod-%d", k+1)))
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "pod-1"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	if _, err := l.lower[0].CoreV1().Services("test-1").Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ask := func(url string) (string, error) {
		return l.kubectl(t.Context(), "lower-1.kubeconfig", "exec", "--namespace=test-1", "pod-1", "--", "/payload", "fetch="+url)
	}
	Eventually(t, patience, func() error { // from itself: hairpin
		out, err := ask("http://web/")
		if err == nil && out != "pod-1\n" {
			err = fmt.Errorf("the answer is %q", out)
		}
		return err
	})
	for what, url := range map[string]string{
		"a pod": "http://" + pods[1].Status.PodIP + ":8080/", "a node": "http://" + l.places.Clusters[2].Address + ":10256/healthz",
	} {
		if out, err := ask(url); err == nil || strings.Contains(out, "pod-2") {
			t.Errorf("%s of the other cluster answers at %s: %q", what, url, out)
		}
	}
	for k := 1; k <= 2; k++ {
		out, err := exec.CommandContext(t.Context(), "nsenter", "--net="+l.places.Clusters[0].Namespace, filepath.Join(l.dir, "bin", "kubectl"),
			"--kubeconfig="+filepath.Join(l.dir, "clusters", fmt.Sprintf("lower-%d.kubeconfig", k)), "get", "--raw", "/version").CombinedOutput()
		if err != nil || !strings.Contains(string(out), KubernetesVersion) {
			t.Errorf("from the upper cluster's namespace the API server of lower-%d says %q: %v", k, out, err)
		}
	}
}

// outside is a lab of another process, as people see it.
type outside struct {
	dir    string
	places *networksStatus
	space  map[string]string // cluster -> what /proc says of its namespace
	lower  []kubernetes.Interface
}

func outsider(t *testing.T, dir string) *outside {
	t.Helper()
	l := &outside{dir: dir, space: map[string]string{}}
	r, err := newReport(dir)
	if err != nil || r.Networks == nil || len(r.Networks.Clusters) != 3 {
		t.Fatalf("status says %+v: %v", r, err)
	}
	l.places = r.Networks
	for _, place := range l.places.Clusters {
		if l.space[place.Name], err = os.Readlink(place.Namespace); err != nil {
			t.Fatal(err)
		}
	}
	for k := 1; k <= 2; k++ {
		data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("lower-%d.kubeconfig", k)))
		if err != nil {
			t.Fatal(err)
		}
		config, err := restConfig(data)
		if err != nil {
			t.Fatal(err)
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		l.lower = append(l.lower, client)
	}
	return l
}

func (l *outside) kubectl(ctx context.Context, kubeconfig string, args ...string) (string, error) {
	args = append([]string{"--kubeconfig=" + filepath.Join(l.dir, kubeconfig)}, args...)
	out, err := exec.CommandContext(ctx, filepath.Join(l.dir, "bin", "kubectl"), args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

// namespaces are the network namespaces that processes are in.
func namespaces(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, file := range files {
		if name, err := os.Readlink(file); err == nil { // else it has ended meanwhile
			all[name] = true
		}
	}
	return all
}

// machine is what of the machine itself could have changed: links, routes, rules, settings, and files that tools leave.
func machine(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if !strings.HasPrefix(link.Name, "ts") { // the node of another lab
			all["link "+link.Name] = link.Flags.String()
		}
	}
	for _, file := range []string{
		"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv4/conf/all/forwarding", "net/bridge/bridge-nf-call-iptables",
		"net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_buckets", "net/netfilter/nf_conntrack_tcp_timeout_established",
		"net/ipv4/vs/conntrack", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
	} {
		data, err := os.ReadFile("/proc/sys/" + file)
		all["setting "+file] = fmt.Sprintf("%s %v", data, errors.Unwrap(err))
	}
	for _, file := range []string{"/run/xtables.lock", "/run/netns"} {
		_, err := os.Stat(file)
		all["file "+file] = fmt.Sprint(errors.Unwrap(err))
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(routes)) {
		if !strings.HasPrefix(line, "ts") {
			all["route "+line] = ""
		}
	}
	all["rules"] = rules(t)
	return all
}

// rules are the machine's iptables rules without their counters.
func rules(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(cache, "tessera", "real-node", "bin", "iptables-save")).CombinedOutput()
	if err != nil {
		t.Fatalf("reading the machine's rules: %v: %s", err, out)
	}
	var kept []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, "*") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
