package virtualnode_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// An upper cluster that was restored from a backup, and one that was built anew, do not cost a running pod its life.
func TestUpperClusterGoesBack(t *testing.T) {
	t.Parallel()
	l := own(t, lab.Options{Lower: 1, Nodes: 8, Config: map[string]map[string]any{
		lab.PartVirtualNode: {"identity": "the-upper-one", "orphanGrace": "1s"}, // The brake holds, not the grace.
	}})
	w := newWorld(t, l)
	t.Run("restored", func(t *testing.T) { w.in(t).restored() })
	t.Run("built anew", func(t *testing.T) { w.in(t).builtAnew() })
	t.Run("same name, another pod", func(t *testing.T) { w.in(t).nameOfOrphan() })
}

// in is the world as a subtest sees it.
func (w *world) in(t *testing.T) *world {
	return &world{T: t, lab: w.lab, upper: w.upper, ns: w.ns}
}

// restored: 50 pods run that the backup does not know.
func (w *world) restored() {
	w.deployNone()
	backup, err := w.lab.BackUp(w.Context(), 0)
	if err != nil {
		w.Fatal(err)
	}
	w.scale(50)
	w.alive(w.listBelow, 50)
	old := w.uidsBelow()
	deaths := w.watchDeaths()

	if err := backup.Restore(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.eventually(func() error {
		c := w.brake()
		if c.Status != corev1.ConditionTrue || !strings.HasPrefix(c.Message, "50 of 50 ") || !strings.Contains(c.Message, "tessera orphans collect") {
			return fmt.Errorf("the node says %s %s: %s", c.Type, c.Status, c.Message)
		}
		return nil
	})
	w.scale(50) // as its owner would, who finds none running
	w.alive(w.listAbove, 50)
	w.alive(w.listBelow, 100)
	var listed struct {
		Orphans []struct{ Cluster, UID string }
	}
	if err := json.Unmarshal([]byte(w.tessera("orphans", "list", "-o", "json")), &listed); err != nil {
		w.Fatal(err)
	}
	if len(listed.Orphans) != 50 {
		w.Errorf("%d orphans are listed, want 50", len(listed.Orphans))
	}
	for _, o := range listed.Orphans {
		if !old[types.UID(o.UID)] {
			w.Errorf("%s is listed, which is none of the 50", o.UID)
		}
	}
	if lines := strings.Count(w.tessera("orphans", "collect", "--dry-run"), "\n"); lines != 51 {
		w.Errorf("the dry run prints %d lines, want a header and 50", lines)
	}
	if dead := deaths.names(); len(dead) > 0 {
		w.Fatalf("%d pods were killed before anybody asked for it: %v", len(dead), dead)
	}

	if got := w.tessera("orphans", "collect", "--cluster", w.lab.LowerName(1)); !strings.Contains(got, "50 orphans are being deleted") {
		w.Errorf("collect says %q", got)
	}
	w.alive(w.listBelow, 50)
	for uid := range w.uidsBelow() {
		if old[uid] {
			w.Errorf("orphan %s lives on", uid)
		}
	}
	w.eventually(func() error {
		if c := w.brake(); c.Status != corev1.ConditionFalse {
			return fmt.Errorf("the node still says %s: %s", c.Type, c.Message)
		}
		return nil
	})
	w.alive(w.listAbove, 50)
}

// builtAnew: what is applied again in an empty cluster of the same identity takes over what runs below.
func (w *world) builtAnew() {
	set := w.statefulSet(2)
	apply := func() {
		w.Helper()
		if _, err := w.upper.AppsV1().StatefulSets(w.ns).Create(w.Context(), set, metav1.CreateOptions{}); err != nil {
			w.Fatal(err)
		}
		w.create(w.pod("bare", 1))
	}
	names := []string{"set-0", "set-1", "bare"}
	apply()
	before := map[string]types.UID{}
	for _, name := range names {
		w.becomes(w.upper, name, "Running", running)
		before[name] = w.get(w.lower(1), name).UID
	}
	deaths := w.watchDeaths()
	if err := w.lab.RebuildUpper(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.makeNamespace()
	apply()
	for _, name := range names {
		upper := w.becomes(w.upper, name, "Running", running)
		below := w.get(w.lower(1), name)
		if below.UID != before[name] || below.Annotations[keys.UpperUID] != string(upper.UID) {
			w.Errorf("%s: below is %s of upper pod %s, want %s of %s", name, below.UID, below.Annotations[keys.UpperUID], before[name], upper.UID)
		}
	}
	if dead := deaths.names(); len(dead) > 0 {
		w.Errorf("killed: %v", dead)
	}
}

// nameOfOrphan: a pod that differs from the orphan of its name waits for that one's end; deleting it does not.
func (w *world) nameOfOrphan() {
	part := w.lab.Process(lab.PartVirtualNode)
	part.Kill()
	now := int64(0)
	if err := w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), "bare", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		w.Fatal(err)
	}
	other := func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"something", "else"} }
	w.create(w.pod("bare", 1, other))
	if err := part.Restart(w.Context()); err != nil {
		w.Fatal(err)
	}
	waits := func(p *corev1.Pod) bool {
		return conditionOf(p.Status.Conditions, keys.LowerPlaced).Reason == "NameOfOrphan"
	}
	w.becomes(w.upper, "bare", "waiting for the orphan", waits) // The brake is on: the old Deployment's pods are orphans, too.
	if err := w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), "bare", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.vanishes(w.upper, "bare")
	orphan := w.get(w.lower(1), "bare")
	w.create(w.pod("bare", 1, other))
	w.becomes(w.upper, "bare", "waiting for the orphan", waits)
	w.eventually(func() error {
		if list := w.tessera("orphans", "list"); !strings.Contains(list, w.ns+"/bare") {
			return fmt.Errorf("not listed: %s", list)
		}
		return nil
	})
	// The lab's kubelet deletes by name, twice in a row; a finalizer keeps the second time from hitting the new pod.
	w.finalizers("bare", `["test.example.com/hold"]`)
	w.tessera("orphans", "collect")
	w.becomes(w.lower(1), "bare", "ended by its kubelet", func(p *corev1.Pod) bool {
		return p.DeletionTimestamp != nil && *p.DeletionGracePeriodSeconds == 0 && p.Status.Phase == corev1.PodSucceeded
	})
	w.finalizers("bare", "null")
	w.becomes(w.upper, "bare", "Running", running)
	if below := w.get(w.lower(1), "bare"); below.UID == orphan.UID {
		w.Error("the orphan was taken over by a pod that differs from it")
	}
}

// finalizers sets those of a lower pod, as JSON.
func (w *world) finalizers(name, list string) {
	w.Helper()
	patch := []byte(`{"metadata":{"finalizers":` + list + `}}`)
	if _, err := w.lower(1).CoreV1().Pods(w.ns).Patch(w.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		w.Fatal(err)
	}
}

// deployNone creates a Deployment without replicas.
func (w *world) deployNone() {
	w.Helper()
	template := w.pod("", 1)
	template.Labels = map[string]string{"app": "web"}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}, Spec: template.Spec},
	}}
	if _, err := w.upper.AppsV1().Deployments(w.ns).Create(w.Context(), deployment, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) scale(replicas int) {
	w.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := w.upper.AppsV1().Deployments(w.ns).Patch(w.Context(), "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) statefulSet(replicas int32) *appsv1.StatefulSet {
	template := w.pod("", 1)
	template.Labels = map[string]string{"app": "set"}
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "set"}, Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}, Spec: template.Spec},
	}}
}

// makeNamespace makes the namespace of this test again in a new upper cluster.
func (w *world) makeNamespace() {
	w.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns, Labels: map[string]string{keys.Enabled: "true"}}}
	if _, err := w.upper.CoreV1().Namespaces().Create(w.Context(), namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		w.Fatal(err)
	}
	w.eventually(func() error {
		_, err := w.upper.CoreV1().ServiceAccounts(w.ns).Get(w.Context(), "default", metav1.GetOptions{})
		return err
	})
}

func (w *world) listAbove() (*corev1.PodList, error) {
	return w.upper.CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=web"})
}

func (w *world) listBelow() (*corev1.PodList, error) {
	return w.lower(1).CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=web"})
}

// alive waits until so many pods run and no others are there.
func (w *world) alive(list func() (*corev1.PodList, error), want int) {
	w.Helper()
	lab.Eventually(w.T, 2*patience, func() error {
		pods, err := list()
		if err != nil {
			return err
		}
		count := 0
		for i := range pods.Items {
			if running(&pods.Items[i]) {
				count++
			}
		}
		if count != want || len(pods.Items) != want {
			return fmt.Errorf("%d of %d pods run, want %d", count, len(pods.Items), want)
		}
		return nil
	})
}

func (w *world) uidsBelow() map[types.UID]bool {
	w.Helper()
	pods, err := w.listBelow()
	if err != nil {
		w.Fatal(err)
	}
	uids := map[types.UID]bool{}
	for i := range pods.Items {
		uids[pods.Items[i].UID] = true
	}
	return uids
}

// deaths are the lower pods that were told to end, or are gone.
type deaths struct {
	mu   sync.Mutex
	dead map[string]bool
}

func (d *deaths) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.dead {
		names = append(names, name)
	}
	return names
}

// watchDeaths watches the lower pods of the namespace until the test ends.
func (w *world) watchDeaths() *deaths {
	w.Helper()
	d := &deaths{dead: map[string]bool{}}
	ctx, cancel := context.WithCancel(w.Context())
	w.Cleanup(cancel)
	watcher, err := w.lower(1).CoreV1().Pods(w.ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	go func() {
		for event := range watcher.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && (pod.DeletionTimestamp != nil || event.Type == "DELETED") {
				d.mu.Lock()
				d.dead[pod.Name+" "+string(pod.UID)] = true
				d.mu.Unlock()
			}
		}
	}()
	return d
}

// brake is the condition of the virtual node that says whether orphans are collected.
func (w *world) brake() corev1.NodeCondition {
	w.Helper()
	node, err := w.upper.CoreV1().Nodes().Get(w.Context(), w.lab.LowerName(1), metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == keys.OrphanBrake {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// tessera runs the product's command line against virtualnode and returns what it prints.
func (w *world) tessera(args ...string) string {
	w.Helper()
	out, err := exec.CommandContext(w.Context(), w.lab.Tessera(), append(args, "--virtualnode", w.virtualNodeURL())...).CombinedOutput()
	if err != nil {
		w.Fatalf("tessera %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// virtualNodeURL is that of virtualnode's plain listener.
func (w *world) virtualNodeURL() string {
	w.Helper()
	data, err := os.ReadFile(filepath.Join(w.lab.Dir(), "parts", lab.PartVirtualNode+".yaml"))
	if err != nil {
		w.Fatal(err)
	}
	var config struct{ InsecurePort int }
	if err := yaml.Unmarshal(data, &config); err != nil {
		w.Fatal(err)
	}
	return fmt.Sprint("http://127.0.0.1:", config.InsecurePort)
}
