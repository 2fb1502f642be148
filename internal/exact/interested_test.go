package exact

import (
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/scheduler"
	schedulerapi "k8s.io/kubernetes/pkg/scheduler/apis/config"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// A pod is Tessera's exactly where the real kube-scheduler calls the extender about it.
func TestMarkedIsWhatTheSchedulerAsksAbout(t *testing.T) {
	t.Parallel()
	extender, err := scheduler.NewHTTPExtender(&schedulerapi.Extender{
		URLPrefix: "http://127.0.0.1:1", FilterVerb: "filter",
		ManagedResources: []schedulerapi.ExtenderManagedResource{{Name: keys.PodResource}},
	})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	asked := 0
	const rounds = 2000
	for range rounds {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: someMarked(random), InitContainers: someMarked(random)}}
		want := extender.IsInterested(pod)
		if want {
			asked++
		}
		if got := translate.Marked(pod); got != want {
			t.Fatalf("marked %t, and kube-scheduler asks about it %t: %+v", got, want, pod.Spec)
		}
	}
	if asked < rounds/10 || asked > rounds-rounds/10 {
		t.Errorf("asked about %d of %d pods: the generator is too one-sided to show anything", asked, rounds)
	}
}

// someMarked are up to two containers, of which each list of resources is marked at times.
func someMarked(random *rand.Rand) []corev1.Container {
	some := func() corev1.ResourceList {
		switch random.IntN(8) {
		case 0:
			return corev1.ResourceList{keys.PodResource: {}}
		case 1, 2, 3:
			return corev1.ResourceList{corev1.ResourceCPU: {}}
		default:
			return nil
		}
	}
	containers := make([]corev1.Container, random.IntN(3))
	for i := range containers {
		containers[i].Resources = corev1.ResourceRequirements{Requests: some(), Limits: some()}
	}
	return containers
}
