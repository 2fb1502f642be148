package extender_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// The strict burst: pods of 1, 2 and 4 CPUs on 2 clusters whose holes are exactly these.
const (
	strictPods     = 60
	strictClusters = 2
	strictSeed     = 5
)

// TestStrictMode has the upper scheduler bind through the extender.
func TestStrictMode(t *testing.T) {
	holes := strictSizes(1)
	l := startLab(t, lab.Options{
		Lower: strictClusters, Nodes: strictPods / strictClusters, Parts: path, StrictBind: true,
		Holes: func(cluster, node int) (corev1.ResourceList, bool) {
			cpus := holes[(cluster-1)*strictPods/strictClusters+node-1]
			return corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(cpus, resource.DecimalSI)}, true
		},
	})
	upper := client(t, l.Upper())
	t.Run("a burst fills every hole", func(t *testing.T) { strictBurst(t, l, upper) })
	t.Run("a pod with a claim runs", func(t *testing.T) { strictClaim(t, l, upper) })
}

// strictSizes are the sizes of the holes, or in another order of the pods.
func strictSizes(salt uint64) []int64 {
	sizes := make([]int64, strictPods)
	for i := range sizes {
		sizes[i] = []int64{1, 2, 4}[i%3]
	}
	rand.New(rand.NewPCG(strictSeed, salt)).Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	return sizes
}

func strictBurst(t *testing.T, l *lab.Lab, upper kubernetes.Interface) {
	newNamespace(t, upper, "strict", true)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(10)
	started := time.Now()
	for i, cpus := range strictSizes(2) {
		group.Go(func() error { return create(ctx, upper, "strict", fmt.Sprintf("p%02d", i), cpus) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), upper, "strict", strictPods) })
	t.Logf("%d pods run after %.1f s", strictPods, time.Since(started).Seconds())
	lab.Eventually(t, time.Minute, func() error { return sitOnTheirHints(t.Context(), upper, "strict") })
	lab.Eventually(t, time.Minute, func() error {
		var answer struct {
			Holds []struct{ Name, State string }
		}
		if err := get(t.Context(), l.ExtenderURL()+"/debug/holds", &answer); err != nil {
			return err
		}
		if len(answer.Holds) > 0 {
			return fmt.Errorf("holds are left: %+v", answer.Holds)
		}
		return nil
	})
	if err := upper.CoreV1().Pods("strict").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
}

// sitOnTheirHints says as an error which pod has no hint in its annotations, or runs on another lower node.
func sitOnTheirHints(ctx context.Context, upper kubernetes.Interface, namespace string) error {
	pods, err := upper.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, pod := range pods.Items {
		if hint := pod.Annotations[keys.HintNode]; hint == "" || hint != pod.Annotations[keys.LowerNode] {
			return fmt.Errorf("%s has the annotations %v", pod.Name, pod.Annotations)
		}
	}
	return nil
}

// strictClaim runs a pod whose claim is bound above before the extender is asked to bind. Only lower-1 has the claim.
func strictClaim(t *testing.T, l *lab.Lab, upper kubernetes.Interface) {
	lower := client(t, l.Lower(1))
	newNamespace(t, upper, "claims", true)
	newOpenNamespace(t, lower, "claims")
	for _, c := range []kubernetes.Interface{upper, lower} {
		claimData(t, c)
	}
	pod := newPod("db", corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")})
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}}
	if _, err := upper.CoreV1().Pods("claims").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), upper, "claims", 1) })
	lab.Eventually(t, time.Minute, func() error { return sitOnTheirHints(t.Context(), upper, "claims") })
	below, err := lower.CoreV1().Pods("claims").Get(t.Context(), "db", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	above, err := upper.CoreV1().Pods("claims").Get(t.Context(), "db", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if hint := above.Annotations[keys.HintNode]; hint != below.Spec.NodeName {
		t.Errorf("the hint is %q, the pod runs on %q", hint, below.Spec.NodeName)
	}
}

// claimData makes the claim claims/data and a volume of its own, and waits until they are bound to each other.
func claimData(t *testing.T, c kubernetes.Interface) {
	t.Helper()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes, class := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, ""
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: modes, ClaimRef: &corev1.ObjectReference{Namespace: "claims", Name: "data"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}},
	}}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size}, StorageClassName: &class, VolumeName: "data",
	}}
	if _, err := c.CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().PersistentVolumeClaims("claims").Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		found, err := c.CoreV1().PersistentVolumeClaims("claims").Get(t.Context(), "data", metav1.GetOptions{})
		if err == nil && found.Status.Phase != corev1.ClaimBound {
			err = fmt.Errorf("the claim is %s", found.Status.Phase)
		}
		return err
	})
}
