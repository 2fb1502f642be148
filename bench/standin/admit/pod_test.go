package admit

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Limits: list("1", "1Gi")}}}},
	}
}

func TestClassOfService(t *testing.T) {
	t.Parallel()
	for want, change := range map[corev1.PodQOSClass]func(*corev1.Container){
		corev1.PodQOSGuaranteed: func(*corev1.Container) {},
		corev1.PodQOSBurstable:  func(c *corev1.Container) { c.Resources.Requests = list("1", "500Mi") },
		corev1.PodQOSBestEffort: func(c *corev1.Container) { c.Resources = corev1.ResourceRequirements{} },
	} {
		p := pod()
		change(&p.Spec.Containers[0])
		if err := Pod(p); err != nil || p.Status.QOSClass != want {
			t.Errorf("%s, not %s: %v", p.Status.QOSClass, want, err)
		}
	}
	if err := Pod(&corev1.Pod{}); !apierrors.IsInvalid(err) {
		t.Error("a pod without containers", err)
	}
}

func TestWhatAWriteMayChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		subresource, patch string
		refused            bool
		check              func(*corev1.Pod) bool
	}{
		"image":           {patch: `{"spec":{"containers":[{"name":"c","image":"j"}]}}`, check: func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image == "j" && p.Generation == 2 }},
		"node":            {patch: `{"spec":{"nodeName":"n"}}`, refused: true},
		"status, plainly": {patch: `{"status":{"phase":"Running"}}`, check: func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodPending && p.Generation == 1 }},
		"status":          {subresource: "status", patch: `{"status":{"phase":"Running"},"spec":{"nodeName":"n"}}`, check: func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && p.Spec.NodeName == "" }},
		"size": {subresource: "resize", patch: `{"spec":{"containers":[{"name":"c","image":"j","resources":{"requests":{"cpu":"500m"}}}]}}`, check: func(p *corev1.Pod) bool {
			return p.Spec.Containers[0].Image == "i" && p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue() == 500
		}},
		"size, plainly":          {patch: `{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"500m"}}}]}}`, refused: true},
		"an ephemeral container": {subresource: "ephemeralcontainers", patch: `{"spec":{"ephemeralContainers":[{"name":"d","image":"i"}]}}`, check: func(p *corev1.Pod) bool { return len(p.Spec.EphemeralContainers) == 1 }},
	} {
		before := pod()
		if err := Pod(before); err != nil {
			t.Fatal(err)
		}
		after := before.DeepCopy()
		if err := Patch(after, types.StrategicMergePatchType, []byte(c.patch)); err != nil {
			t.Fatal(err)
		}
		err := KeepPod(before, after, c.subresource)
		if refused := apierrors.IsInvalid(err); refused != c.refused || !refused && (err != nil || !c.check(after)) {
			t.Errorf("%s: %v, %+v", name, err, after)
		}
	}
}

func TestDeletionTakesTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	none, five := int64(0), int64(5)
	for name, c := range map[string]struct {
		change  func(*corev1.Pod)
		options metav1.DeleteOptions
		takes   bool
		grace   int64
	}{
		"on no node": {takes: false},
		"on a node":  {change: func(p *corev1.Pod) { p.Spec.NodeName = "n" }, takes: true, grace: 30},
		"soon":       {change: func(p *corev1.Pod) { p.Spec.NodeName = "n" }, options: metav1.DeleteOptions{GracePeriodSeconds: &five}, takes: true, grace: 5},
		"at once":    {change: func(p *corev1.Pod) { p.Spec.NodeName = "n" }, options: metav1.DeleteOptions{GracePeriodSeconds: &none}},
		"finished":   {change: func(p *corev1.Pod) { p.Spec.NodeName, p.Status.Phase = "n", corev1.PodFailed }},
		"held":       {change: func(p *corev1.Pod) { p.Finalizers = []string{"x"} }, takes: true},
		"sooner": {change: func(p *corev1.Pod) {
			p.Spec.NodeName = "n"
			MarkDeleted(p, &metav1.DeleteOptions{}, now)
		}, options: metav1.DeleteOptions{GracePeriodSeconds: &five}, takes: true, grace: 5},
	} {
		p := pod()
		if err := Pod(p); err != nil {
			t.Fatal(err)
		}
		if c.change != nil {
			c.change(p)
		}
		if takes := MarkDeleted(p, &c.options, now); takes != c.takes || *p.DeletionGracePeriodSeconds != c.grace {
			t.Errorf("%s: takes time %t, grace %d", name, takes, *p.DeletionGracePeriodSeconds)
		}
		if want := now.Unix() + c.grace; p.DeletionTimestamp.Unix() != want {
			t.Errorf("%s: ends %s", name, p.DeletionTimestamp)
		}
	}
}
