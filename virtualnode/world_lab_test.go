package virtualnode_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// patience bounds every wait of these tests, unless a world has more.
const patience = time.Minute

// holds plays the extender for the virtual nodes of the shared lab.
var holds = newFakeExtender()

// shared is the lab of the tests that break nothing.
var shared = lab.NewShared(lab.Options{
	Lower: 2, Nodes: 4, UpperNodes: 1, Parts: []string{lab.PartVirtualNode},
	Config: map[string]map[string]any{lab.PartVirtualNode: {
		"extender": holds.server.URL, "extenderTokenFile": "", "tokenRefreshAfter": "3s",
		"perCluster": map[string]any{
			"lower-1": map[string]any{"allow": []string{"upperToken", "lowerAccount"}},
			"lower-2": map[string]any{"ownerInOpenNamespaces": false},
		},
	}},
})

func TestMain(m *testing.M) {
	code := lab.Run(m, shared, realNode, networked)
	holds.server.Close()
	os.Exit(code)
}

// fakeExtender answers GET /v1/holds/UID from a map; it hangs for the UIDs in silent.
type fakeExtender struct {
	server *httptest.Server
	mu     sync.Mutex
	node   map[types.UID]string // "cluster/node"
	silent map[types.UID]bool
	asked  map[types.UID]int
}

func newFakeExtender() *fakeExtender {
	f := &fakeExtender{node: map[types.UID]string{}, silent: map[types.UID]bool{}, asked: map[types.UID]int{}}
	f.server = httptest.NewServer(http.HandlerFunc(f.answer))
	return f
}

func (f *fakeExtender) answer(w http.ResponseWriter, r *http.Request) {
	uid := types.UID(strings.TrimPrefix(r.URL.Path, "/v1/holds/"))
	f.mu.Lock()
	place, silent := f.node[uid], f.silent[uid]
	f.asked[uid]++
	f.mu.Unlock()
	if silent {
		<-r.Context().Done()
		return
	}
	cluster, node, ok := strings.Cut(place, "/")
	if !ok {
		http.Error(w, `{"error":"no hold"}`, http.StatusNotFound)
		return
	}
	fmt.Fprintf(w, `{"uid":%q,"cluster":%q,"node":%q,"state":"bound"}`, uid, cluster, node)
}

func (f *fakeExtender) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// world is a namespace of the upper cluster and clients for both levels.
type world struct {
	*testing.T
	lab      *lab.Lab
	upper    kubernetes.Interface
	ns       string
	patience time.Duration // if it is more than the others have
}

func client(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	config.QPS, config.Burst = 500, 1000
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newWorld(t *testing.T, l *lab.Lab) *world {
	t.Helper()
	w := &world{T: t, lab: l, upper: client(t, l.Upper())}
	ns, err := w.upper.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: map[string]string{keys.Enabled: "true"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.ns = ns.Name
	t.Cleanup(func() {
		_ = w.upper.CoreV1().Namespaces().Delete(context.Background(), w.ns, metav1.DeleteOptions{}) // the lab ends anyway
	})
	w.eventually(func() error {
		_, err := w.upper.CoreV1().ServiceAccounts(w.ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return w
}

// openNamespace is a namespace that Tessera has not made and its pods may go to.
func openNamespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.OpenTo: "any"}}}
}

func (w *world) lower(k int) kubernetes.Interface { return client(w.T, w.lab.Lower(k)) }

// kubeconfig is that of a lower cluster as virtualnode has it, and how to write another in its place.
func (w *world) kubeconfig(k int) (was []byte, write func([]byte)) {
	w.Helper()
	file := clusterFile(w.lab, w.lab.LowerName(k))
	was, err := os.ReadFile(file)
	if err != nil {
		w.Fatal(err)
	}
	return was, func(data []byte) {
		w.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) eventually(check func() error) {
	w.Helper()
	lab.Eventually(w.T, max(patience, w.patience), check)
}

// pod is a pod as admission would hand it on, for the virtual node of lower cluster k.
func (w *world) pod(name string, k int, change ...func(*corev1.Pod)) *corev1.Pod {
	marked := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), keys.PodResource: resource.MustParse("0")}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{keys.Cluster: w.lab.LowerName(k)},
			Tolerations:  []corev1.Toleration{{Key: keys.VirtualTaint, Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "main", Image: "app:1", Resources: corev1.ResourceRequirements{
				Requests: marked, Limits: corev1.ResourceList{keys.PodResource: resource.MustParse("0")},
			}}},
		},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

// gated has a pod wait until ungate.
func gated(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "test/wait"}} }

func (w *world) ungate(name string) {
	w.Helper()
	_, err := w.upper.CoreV1().Pods(w.ns).Patch(w.Context(), name, types.StrategicMergePatchType,
		[]byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{})
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) create(pod *corev1.Pod) *corev1.Pod {
	w.Helper()
	created, err := w.upper.CoreV1().Pods(w.ns).Create(w.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return created
}

func (w *world) get(client kubernetes.Interface, name string) *corev1.Pod {
	w.Helper()
	pod, err := client.CoreV1().Pods(w.ns).Get(w.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return pod
}

// becomes waits until the pod satisfies ok.
func (w *world) becomes(client kubernetes.Interface, name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	w.Helper()
	var pod *corev1.Pod
	w.eventually(func() (err error) {
		pod, err = client.CoreV1().Pods(w.ns).Get(w.Context(), name, metav1.GetOptions{})
		if err == nil && !ok(pod) {
			err = fmt.Errorf("pod %s is not %s: %s %s %+v", name, what, pod.Status.Phase, pod.Status.Reason, pod.Status.Conditions)
		}
		return err
	})
	return pod
}

func (w *world) vanishes(client kubernetes.Interface, name string) {
	w.Helper()
	w.eventually(func() error {
		switch _, err := client.CoreV1().Pods(w.ns).Get(w.Context(), name, metav1.GetOptions{}); {
		case err == nil:
			return fmt.Errorf("pod %s is still there", name)
		case !apierrors.IsNotFound(err):
			return err
		}
		return nil
	})
}

func running(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning }

func conditionOf(conditions []corev1.PodCondition, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// nodeReady waits until the virtual node's Ready condition has the status and the reason, and new pods may come if it is Ready.
func (w *world) nodeReady(name string, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
	w.Helper()
	var last corev1.NodeCondition
	w.eventually(func() error {
		node, err := w.upper.CoreV1().Nodes().Get(w.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady {
				last = c
			}
		}
		if last.Status != status || last.Reason != reason {
			return fmt.Errorf("node %s is Ready=%s %s: %s", name, last.Status, last.Reason, last.Message)
		}
		if usable := nodeCondition(node, keys.Usable); usable.Status != status {
			return fmt.Errorf("node %s is Usable=%s %s: %s", name, usable.Status, usable.Reason, usable.Message)
		}
		return nil
	})
	return last
}

// seen collects what a watch tells from now on; the function it returns ends the watch and gives it all.
func seen[T runtime.Object](w *world, watcher watch.Interface, err error) (all func() []T) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	var objects []T
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range watcher.ResultChan() {
			if object, ok := event.Object.(T); ok {
				objects = append(objects, object)
			}
		}
	}()
	w.Cleanup(watcher.Stop)
	return func() []T {
		watcher.Stop()
		<-ended
		return objects
	}
}
