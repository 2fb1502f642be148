package rebalance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
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

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/rebalance"
)

const patience = time.Minute

// shared runs rebalance as a dry run. Tests that move pods run their own beside it, with its account.
var shared = lab.NewShared(lab.Options{
	Parts:  []string{lab.PartExtender, lab.PartRebalance},
	Config: map[string]map[string]any{lab.PartRebalance: {"interval": "1s", "stuckAfter": "1s", "dryRun": true}},
})

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// world is what a test has: a client and a namespace of its own, and a node that looks like a virtual one.
type world struct {
	lab       *lab.Lab
	client    kubernetes.Interface
	namespace string
	cluster   string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	l := shared.Get(t)
	client, err := kubernetes.NewForConfig(l.Upper())
	if err != nil {
		t.Fatal(err)
	}
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "cluster-of-" + ns.Name, Labels: map[string]string{keys.Cluster: "cluster-of-" + ns.Name}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
	owner, err := kubernetes.NewForConfig(l.UpperAs(lab.PartVirtualNode)) // Nobody else may make a virtual node.
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // The lab ends anyway, so errors do no harm.
		_ = client.CoreV1().Nodes().Delete(context.Background(), node.Name, metav1.DeleteOptions{})
		_ = client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{})
		_ = client.CoreV1().Pods(ns.Name).DeleteCollection(context.Background(), *metav1.NewDeleteOptions(0), metav1.ListOptions{})
	})
	return &world{lab: l, client: client, namespace: ns.Name, cluster: node.Name}
}

// stuckPod makes a ReplicaSet of one, bound to the node, and writes into its pod's status what virtualnode would if no
// node below took it.
func (w *world) stuckPod(t *testing.T, name string, change func(*corev1.PodTemplateSpec)) *corev1.Pod {
	t.Helper()
	labels := map[string]string{"app": name}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{NodeName: w.cluster, Containers: []corev1.Container{{Name: "c", Image: "pause"}}},
	}
	if change != nil {
		change(&template)
	}
	_, err := w.client.AppsV1().ReplicaSets(w.namespace).Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return w.hang(t, name)
}

// hang marks the pod of the ReplicaSet that is not going away as stuck.
func (w *world) hang(t *testing.T, name string) (pod *corev1.Pod) {
	t.Helper()
	lab.Eventually(t, patience, func() error {
		pods, err := w.client.CoreV1().Pods(w.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		for i := range pods.Items {
			if pods.Items[i].DeletionTimestamp == nil {
				pod = &pods.Items[i]
				return nil
			}
		}
		return fmt.Errorf("no pod of %s yet", name)
	})
	status := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":"False","reason":"Unschedulable","lastTransitionTime":%q}]}}`,
		keys.LowerPlaced, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	pod, err := w.client.CoreV1().Pods(w.namespace).Patch(t.Context(), pod.Name, types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// start runs a rebalance that moves pods, with the account and limits of the lab's, and returns its plain URL. The
// function ends it.
func (w *world) start(t *testing.T, change func(*rebalance.Config)) (url string, stop func()) {
	t.Helper()
	config := w.config(t)
	config.DryRun, config.NeedsTarget = false, false // There is no other cluster in this lab.
	config.Listen = ""
	config.InsecurePort = freePort(t)
	if change != nil {
		change(config)
	}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- rebalance.Run(ctx, config) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("rebalance ended: %v", err)
		}
	}
	t.Cleanup(stop)
	return fmt.Sprintf("http://127.0.0.1:%d", config.InsecurePort), stop
}

// config is that of the lab's own rebalance.
func (w *world) config(t *testing.T) *rebalance.Config {
	t.Helper()
	config := rebalance.DefaultConfig()
	if err := serve.Load(filepath.Join(w.lab.Dir(), "parts", "rebalance.yaml"), config); err != nil {
		t.Fatal(err)
	}
	return config
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// leaving reports why the pod is not on its way out.
func (w *world) leaving(t *testing.T, pod *corev1.Pod) error {
	t.Helper()
	now, err := w.client.CoreV1().Pods(w.namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case now.DeletionTimestamp == nil:
		return fmt.Errorf("%s stays", pod.Name)
	}
	for _, c := range now.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Reason == "EvictionByEvictionAPI" {
			return nil
		}
	}
	return fmt.Errorf("%s was deleted, not evicted", pod.Name)
}

// plan is the answer of /debug/plan.
type plan struct {
	DryRun  bool
	Moves   []rebalance.Move
	Skipped []rebalance.Skip
}

// planned reports why the plan does not say this about the pod: "" for a move, else the reason of the skip.
func planned(t *testing.T, url string, pod *corev1.Pod, want rebalance.SkipReason) error {
	t.Helper()
	answer, err := http.Get(url + "/debug/plan")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var p plan
	if err := json.NewDecoder(answer.Body).Decode(&p); err != nil {
		return err
	}
	for _, move := range p.Moves {
		if move.UID == pod.UID && want == "" {
			return nil
		}
	}
	for _, skip := range p.Skipped {
		if skip.Name == pod.Name && skip.Reason == want && want != "" {
			return nil
		}
	}
	return fmt.Errorf("pod %s is not in the plan as %q: %+v", pod.Name, want, p)
}

func TestStuckPodIsEvictedAndItsClusterAvoided(t *testing.T) {
	w := newWorld(t)
	pod := w.stuckPod(t, "web", nil)
	// A disruption budget counts pods that run: the API server lets a pod that waits go in spite of it.
	none := intstr.FromInt32(0)
	_, err := w.client.PolicyV1().PodDisruptionBudgets(w.namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &none, Selector: &metav1.LabelSelector{MatchLabels: pod.Labels}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	url, _ := w.start(t, nil)
	start := time.Now()
	lab.Eventually(t, patience, func() error { return w.leaving(t, pod) })
	t.Logf("evicted after %s", time.Since(start).Round(100*time.Millisecond))

	avoided, err := w.client.CoreV1().ConfigMaps(keys.Namespace).Get(t.Context(), keys.AvoidConfigMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key := string(metav1.GetControllerOf(pod).UID) + "_" + w.cluster
	if !strings.Contains(avoided.Data[key], `"stuck"`) {
		t.Errorf("%s is not in the avoid list: %v", key, avoided.Data)
	}
	lab.Eventually(t, patience, func() error {
		event, err := w.client.CoreV1().Events(w.namespace).Get(t.Context(), "tessera-moved-"+string(pod.UID), metav1.GetOptions{})
		if err == nil && event.Reason != rebalance.EventMoved {
			t.Errorf("event %+v", event)
		}
		return err
	})
	lab.Eventually(t, patience, func() error { return counted(url, `tessera_rebalance_moves_total{policy="stuck",result="moved"} 1`) })
}

// counted reports why the metrics do not have the line.
func counted(url, line string) error {
	answer, err := http.Get(url + "/metrics")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && !strings.Contains(string(text), line) {
		err = fmt.Errorf("no %s", line)
	}
	return err
}

func TestPodsThatStay(t *testing.T) {
	w := newWorld(t)
	kept := w.stuckPod(t, "kept", func(p *corev1.PodTemplateSpec) { p.Annotations = map[string]string{keys.Keep: "true"} })
	bare, err := w.client.CoreV1().Pods(w.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "bare", Labels: map[string]string{"app": "bare"}}, Spec: kept.Spec,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.hang(t, "bare")
	moved := w.stuckPod(t, "moved", nil)
	url, _ := w.start(t, nil)
	lab.Eventually(t, patience, func() error {
		return errors.Join(w.leaving(t, moved), planned(t, url, kept, rebalance.Kept), planned(t, url, bare, rebalance.NoController))
	})
	for _, pod := range []*corev1.Pod{kept, bare} {
		if err := w.leaving(t, pod); err == nil {
			t.Errorf("%s was evicted", pod.Name)
		}
	}
}

func TestDryRunMovesNothing(t *testing.T) {
	w := newWorld(t)
	pod := w.stuckPod(t, "web", nil)
	url := fmt.Sprintf("http://127.0.0.1:%d", w.config(t).InsecurePort)
	lab.Eventually(t, patience, func() error {
		return errors.Join(planned(t, url, pod, ""), counted(url, `tessera_rebalance_moves_total{policy="stuck",result="dryRun"}`))
	})
	if err := w.leaving(t, pod); err == nil {
		t.Error("a dry run evicted a pod")
	}
	events, err := w.client.CoreV1().Events(w.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=" + rebalance.EventMoved})
	if err != nil || len(events.Items) != 0 {
		t.Errorf("events of a dry run: %v %v", events.Items, err)
	}
}

// TestNoExtenderNoEviction: a pod whose owner does not avoid the cluster would come back to it.
func TestNoExtenderNoEviction(t *testing.T) {
	w := newWorld(t)
	pod := w.stuckPod(t, "web", nil)
	url, _ := w.start(t, func(c *rebalance.Config) { c.Extender = "https://127.0.0.1:1" })
	lab.Eventually(t, patience, func() error {
		return counted(url, `tessera_rebalance_moves_total{policy="stuck",result="avoidFailed"}`)
	})
	if err := w.leaving(t, pod); err == nil {
		t.Error("evicted")
	}
}

// TestLimitsOutliveTheProcess: a limit by the hour holds over the end of the process.
func TestLimitsOutliveTheProcess(t *testing.T) {
	w := newWorld(t)
	lab.Eventually(t, patience, func() error { // The moves of other tests go with their namespaces.
		moved, err := w.client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=" + rebalance.EventMoved})
		if err == nil && len(moved.Items) > 0 {
			err = fmt.Errorf("%d moves of others", len(moved.Items))
		}
		return err
	})
	one := func(c *rebalance.Config) { c.MaxUnplacedPerHour = 1 }
	pod := w.stuckPod(t, "web", nil)
	url, stop := w.start(t, one)
	lab.Eventually(t, patience, func() error {
		return counted(url, `tessera_rebalance_moves_total{policy="stuck",result="moved"} 1`)
	})
	stop()
	if err := w.leaving(t, pod); err != nil {
		t.Fatal(err)
	}
	next := w.hang(t, "web")
	url, _ = w.start(t, one)
	lab.Eventually(t, patience, func() error { return planned(t, url, next, rebalance.MaxPerHour) })
	if err := w.leaving(t, next); err == nil {
		t.Error("moved a second time")
	}
}

func TestLeaderElection(t *testing.T) {
	w := newWorld(t)
	pod := w.stuckPod(t, "web", nil)
	w.start(t, func(c *rebalance.Config) { c.LeaderElection.Enabled = true })
	w.start(t, func(c *rebalance.Config) { c.LeaderElection.Enabled = true })
	lab.Eventually(t, patience, func() error { return w.leaving(t, pod) })
	lease, err := w.client.CoordinationV1().Leases(keys.Namespace).Get(t.Context(), "tessera-rebalance", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		t.Errorf("lease %+v, %v", lease, err)
	}
}
