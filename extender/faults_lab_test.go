package extender_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// TestFaults stops, kills and cuts off things in a lab of its own. Every case ends with the lab whole again.
func TestFaults(t *testing.T) {
	l := startLab(t, lab.Options{
		Lower: 2, Nodes: 4, UpperNodes: 2, Parts: path,
		Config: map[string]map[string]any{lab.PartExtender: {"maxViewAge": "6s"}},
	})
	upper := client(t, l.Upper())
	newNamespace(t, upper, "ordinary", false)
	newNamespace(t, upper, "ours", true)
	f := &faults{lab: l, upper: upper}
	t.Run("extender stopped", f.extenderStopped)
	t.Run("extender dead", f.extenderDead)
	t.Run("lower cluster silent", f.lowerSilent)
	t.Run("kubeconfig broken", f.kubeconfigBroken)
	t.Run("lower cluster unreachable from the start", f.lowerUnreachable)
	t.Run("claim that waits", f.claimWaits)
	t.Run("room that appears is used", f.roomAppears)
}

type faults struct {
	lab   *lab.Lab
	upper kubernetes.Interface
	made  int
}

// pods creates n pods of 1 CPU.
func (f *faults) pods(t *testing.T, namespace string, n int) []string {
	t.Helper()
	var names []string
	for range n {
		f.made++
		name := fmt.Sprintf("p%d", f.made)
		if err := create(t.Context(), f.upper, namespace, name, 1); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func (f *faults) allRun(t *testing.T, namespace string) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		pods, err := f.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		return runs(t.Context(), f.upper, namespace, len(pods.Items))
	})
}

// ordinaryWait creates ordinary pods one after the other and prints how long each waited for its node.
func (f *faults) ordinaryWait(t *testing.T, what string) {
	t.Helper()
	var waits []time.Duration
	for range 5 {
		started := time.Now()
		name := f.pods(t, "ordinary", 1)[0]
		lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), f.upper, "ordinary", name) })
		waits = append(waits, time.Since(started).Round(time.Millisecond))
	}
	slices.Sort(waits)
	t.Logf("%s: ordinary pods waited %v for their node (longest %v)", what, waits, waits[len(waits)-1])
}

func bound(ctx context.Context, c kubernetes.Interface, namespace, name string) error {
	pod, err := c.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		return fmt.Errorf("%s has no node: %v", name, pod.Status.Conditions)
	}
	return nil
}

func (f *faults) extenderStopped(t *testing.T) {
	f.pods(t, "ours", 2)
	f.allRun(t, "ours")
	f.ordinaryWait(t, "extender well")
	process := f.lab.Process(lab.PartExtender)
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.pods(t, "ours", 5)
	f.ordinaryWait(t, "extender stopped, 5 of Tessera's pods waiting")
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.allRun(t, "ours")
}

func (f *faults) extenderDead(t *testing.T) {
	process := f.lab.Process(lab.PartExtender)
	process.Kill()
	names := f.pods(t, "ours", 5)
	f.ordinaryWait(t, "extender dead, 5 of Tessera's pods waiting")
	// The marker has quantity 0. That kube-scheduler asks the extender all the same is what everything rests on: to be
	// looked at again at every upgrade of Kubernetes.
	for _, name := range names {
		if bound(t.Context(), f.upper, "ours", name) == nil {
			t.Errorf("%s has a node although no extender could be asked", name)
		}
	}
	if err := process.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.allRun(t, "ours")
}

// lowerSilent stops a lower API server: its cluster is refused once its view is too old, the other goes on.
func (f *faults) lowerSilent(t *testing.T) {
	process := f.lab.Process("lower-2/apiserver")
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error { return f.cluster(t.Context(), "lower-2", func(c cluster) bool { return c.Stale }) })
	for _, name := range f.pods(t, "ours", 3) {
		lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), f.upper, "ours", name) })
		pod, err := f.upper.CoreV1().Pods("ours").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if pod.Spec.NodeName != "lower-1" {
			t.Errorf("%s went to %s", name, pod.Spec.NodeName)
		}
	}
	f.ordinaryWait(t, "a lower cluster silent")
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error { return f.cluster(t.Context(), "lower-2", func(c cluster) bool { return !c.Stale }) })
	f.allRun(t, "ours")
}

func (f *faults) kubeconfigBroken(t *testing.T) {
	f.joins(t, "broken", "this: [is no kubeconfig", func(c cluster) bool { return c.Error != "" && !c.Synced })
}

func (f *faults) lowerUnreachable(t *testing.T) {
	f.joins(t, "nowhere", `{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x, user: x}}],
		clusters: [{name: x, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: x, user: {token: secret}}]}`,
		func(c cluster) bool { return c.Error != "" && !c.Synced })
}

// joins puts a file of a bad cluster beside the good ones: it is told about, and the others work on.
func (f *faults) joins(t *testing.T, name, text string, want func(cluster) bool) {
	t.Helper()
	file := filepath.Join(f.lab.Dir(), "clusters", name+".kubeconfig")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error { return f.cluster(t.Context(), name, want) })
	f.pods(t, "ours", 1)
	f.allRun(t, "ours")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		if f.cluster(t.Context(), name, func(cluster) bool { return true }) == nil {
			return fmt.Errorf("%s is still listed", name)
		}
		return nil
	})
}

// claimWaits: the scheduler has chosen a virtual node and waits for a claim, for as long as ten minutes. It asks nobody
// again meanwhile, so the hold has to last, and it has no time limit: its state says so.
func (f *faults) claimWaits(t *testing.T) {
	class, wait := "nobody-provisions", storagev1.VolumeBindingWaitForFirstConsumer
	if _, err := f.upper.StorageV1().StorageClasses().Create(t.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "test.example.com/none", VolumeBindingMode: &wait,
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
			Resources: corev1.VolumeResourceRequirements{Requests: quantities("storage", "1Gi")},
		},
	}
	if _, err := f.upper.CoreV1().PersistentVolumeClaims("ours").Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.boundClaimBelow(t, claim)
	pod := newPod("claims", quantities("cpu", "3"))
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}}
	if _, err := f.upper.CoreV1().Pods("ours").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	state := func() (string, error) {
		var answer struct {
			Holds []struct{ Name, State, Node string }
		}
		err := get(t.Context(), f.lab.ExtenderURL()+"/debug/holds", &answer)
		for _, hold := range answer.Holds {
			if hold.Name == "claims" {
				return hold.State, err
			}
		}
		return "", err
	}
	lab.Eventually(t, time.Minute, func() error {
		now, err := state()
		if err == nil && now != "chosen" {
			err = fmt.Errorf("the hold is %q", now)
		}
		return err
	})
	f.pods(t, "ours", 2) // The scheduler goes on with others.
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), f.upper, "ours", f.alive(t)-1) })
	if now, err := state(); now != "chosen" || err != nil {
		t.Errorf("the hold is %q: %v", now, err)
	}
	if err := f.upper.CoreV1().Pods("ours").Delete(t.Context(), "claims", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		now, err := state()
		if err == nil && now != "" {
			err = fmt.Errorf("the hold of a deleted pod is %q", now)
		}
		return err
	})
}

// alive counts the pods of a namespace.
func (f *faults) alive(t *testing.T) int {
	t.Helper()
	pods, err := f.upper.CoreV1().Pods("ours").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return len(pods.Items)
}

// boundClaimBelow makes the claim in the first lower cluster, with a volume of its own: nothing brings claims down yet.
func (f *faults) boundClaimBelow(t *testing.T, claim *corev1.PersistentVolumeClaim) {
	t.Helper()
	below, none := claim.DeepCopy(), ""
	below.Spec.StorageClassName, below.Spec.VolumeName = &none, claim.Name
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: claim.Name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: claim.Spec.Resources.Requests, AccessModes: claim.Spec.AccessModes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}},
		},
	}
	lower := client(t, f.lab.Lower(1))
	newOpenNamespace(t, lower, "ours")
	if _, err := lower.CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := lower.CoreV1().PersistentVolumeClaims("ours").Create(t.Context(), below, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		now, err := lower.CoreV1().PersistentVolumeClaims("ours").Get(t.Context(), claim.Name, metav1.GetOptions{})
		if err == nil && now.Status.Phase != corev1.ClaimBound {
			err = fmt.Errorf("the claim below is %s", now.Status.Phase)
		}
		return err
	})
}

// roomAppears: a pod that fits nowhere runs soon after a lower pod that took the room has gone.
func (f *faults) roomAppears(t *testing.T) {
	f.clear(t, "ours")
	lower := client(t, f.lab.Lower(1))
	newNamespace(t, lower, "foreign", false)
	var blockers []string
	for k := range 2 {
		for i := range 4 {
			blockers = append(blockers, fmt.Sprintf("block-%d-%d", k+1, i+1))
		}
	}
	for i, name := range blockers {
		c := client(t, f.lab.Lower(i/4+1))
		newNamespace(t, c, "foreign", false)
		if err := create(t.Context(), c, "foreign", name, 8); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), c, "foreign", name) })
	}
	if err := create(t.Context(), f.upper, "ours", "large", 12); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		pod, err := f.upper.CoreV1().Pods("ours").Get(t.Context(), "large", metav1.GetOptions{})
		if err == nil && !slices.ContainsFunc(pod.Status.Conditions, refused) {
			err = fmt.Errorf("not refused yet: %v", pod.Status.Conditions)
		}
		return err
	})
	started := time.Now()
	if err := lower.CoreV1().Pods("foreign").Delete(t.Context(), "block-1-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), f.upper, "ours", "large") })
	t.Logf("the pod had its node %v after room was made below", time.Since(started).Round(time.Millisecond))
	f.allRun(t, "ours")
}

// clear deletes the pods of a namespace and waits until they have gone.
func (f *faults) clear(t *testing.T, namespace string) {
	t.Helper()
	if err := f.upper.CoreV1().Pods(namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		pods, err := f.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d pods are still there", len(pods.Items))
		}
		return err
	})
}

func refused(c corev1.PodCondition) bool {
	return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
}

// cluster is what the tests read of /debug/clusters.
type cluster struct {
	Name, Error   string
	Synced, Stale bool
}

// cluster says as an error that a cluster is not as wanted.
func (f *faults) cluster(ctx context.Context, name string, want func(cluster) bool) error {
	var answer struct{ Clusters []cluster }
	if err := get(ctx, f.lab.ExtenderURL()+"/debug/clusters", &answer); err != nil {
		return err
	}
	for _, c := range answer.Clusters {
		if c.Name == name && want(c) {
			return nil
		}
	}
	return fmt.Errorf("%s is not as wanted: %+v", name, answer.Clusters)
}
