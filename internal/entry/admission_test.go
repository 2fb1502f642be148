package entry

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	podoptions "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1defaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/plugin/pkg/admission/limitranger"
)

// Limit works on a part of the pod. Here the whole pod goes the way that it goes in an API server: the LimitRanger plugin
// changes it, the pod is validated, the plugin judges it. Both must say the same, and apart from resources and the plugin's
// annotation nothing may differ from the pod that was sent.
func TestLimitDoesWhatTheAPIServerDoes(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		pod, ranges := randomPod(r), randomRanges(r)
		if len(validated(internal(t, pod))) > 0 {
			continue // No upper API server has let it in.
		}
		sent := pod.DeepCopy()
		want, wantErr := admitted(t, pod, ranges)
		got, err := Limit(pod, ranges)
		if diff := cmp.Diff(sent, pod); diff != "" {
			t.Fatalf("seed %d: Limit changed the pod it was given:\n%s", seed, diff)
		}
		if verdict(err) != verdict(wantErr) {
			t.Fatalf("seed %d: Limit says %v, the API server %v", seed, err, wantErr)
		}
		seen[verdict(err)]++
		if err != nil {
			continue
		}
		delete(want.Annotations, "kubernetes.io/limit-ranger")
		if diff := cmp.Diff(want, internal(t, got.DeepCopy()), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d: the pod differs from the API server's (-want +got):\n%s", seed, diff)
		}
		if diff := cmp.Diff(withoutResources(sent), withoutResources(got)); diff != "" {
			t.Fatalf("seed %d: Limit changed more than resources:\n%s", seed, diff)
		}
		if got != pod {
			seen["changed"]++
		}
	}
	for _, kind := range []string{"enters", "invalid", "forbidden", "changed"} {
		if seen[kind] < 50 {
			t.Errorf("only %d cases of kind %q: the random objects test too little; seen %v", seen[kind], kind, seen)
		}
	}
}

func verdict(err error) string {
	switch {
	case err == nil:
		return "enters"
	case apierrors.IsInvalid(err):
		return "invalid"
	case apierrors.IsForbidden(err):
		return "forbidden"
	}
	return "fails: " + err.Error()
}

// admitted returns the pod as the admission plugin and the validation of an API server leave it.
func admitted(t *testing.T, pod *corev1.Pod, ranges []*corev1.LimitRange) (*core.Pod, error) {
	t.Helper()
	plugin, err := limitranger.NewLimitRanger(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset() // asked live when the informer has no ranges
	factory := informers.NewSharedInformerFactory(client, 0)
	plugin.SetExternalKubeInformerFactory(factory)
	plugin.SetExternalKubeClientSet(client)
	for _, limits := range ranges {
		if err := factory.Core().V1().LimitRanges().Informer().GetIndexer().Add(limits); err != nil {
			t.Fatal(err)
		}
	}
	whole := internal(t, pod.DeepCopy())
	request := admission.NewAttributesRecord(whole, nil, corev1.SchemeGroupVersion.WithKind("Pod"), pod.Namespace, pod.Name,
		corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create, nil, false, nil)
	if err := plugin.Admit(t.Context(), request, nil); err != nil {
		return nil, err
	}
	if wrong := validated(whole); len(wrong) > 0 {
		return nil, apierrors.NewInvalid(core.Kind("Pod"), pod.Name, wrong)
	}
	return whole, plugin.Validate(t.Context(), request, nil)
}

// internal returns the pod in the form that API servers work on.
func internal(t *testing.T, pod *corev1.Pod) *core.Pod {
	t.Helper()
	converted := &core.Pod{}
	if err := corev1defaults.Convert_v1_Pod_To_core_Pod(pod, converted, nil); err != nil {
		t.Fatal(err)
	}
	return converted
}

func validated(whole *core.Pod) field.ErrorList {
	options := podoptions.GetValidationOptionsFromPodSpecAndMeta(&whole.Spec, nil, &whole.ObjectMeta, nil)
	options.ResourceIsPod = true
	return validation.ValidatePodCreate(whole, options)
}

func withoutResources(pod *corev1.Pod) *corev1.Pod {
	rest := pod.DeepCopy()
	for _, containers := range [][]corev1.Container{rest.Spec.InitContainers, rest.Spec.Containers} {
		for i := range containers {
			containers[i].Resources.Requests, containers[i].Resources.Limits = nil, nil
		}
	}
	return rest
}

// randomPod returns a pod as an API server stores it, with something in many of its fields.
func randomPod(r *rand.Rand) *corev1.Pod {
	pod := newPod("", "")
	pod.Annotations = map[string]string{"example.com/note": "kept"}
	pod.Spec.Containers = randomContainers(r, "main", 1+r.IntN(2))
	pod.Spec.InitContainers = randomContainers(r, "init", r.IntN(3))
	for i := range pod.Spec.InitContainers {
		if r.IntN(2) == 0 {
			pod.Spec.InitContainers[i].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
	}
	if r.IntN(4) == 0 {
		pod.Spec.Resources = new(requirements(randomAmounts(r, podLevel), randomAmounts(r, podLevel)))
	}
	pod.Spec.HostNetwork = r.IntN(4) == 0
	pod.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	pod.Spec.Tolerations = []corev1.Toleration{{Key: "tainted", Operator: corev1.TolerationOpExists}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	corev1defaults.SetObjectDefaults_Pod(pod)
	return pod
}

func randomContainers(r *rand.Rand, name string, count int) []corev1.Container {
	var containers []corev1.Container
	for i := range count {
		c := container(fmt.Sprintf("%s-%d", name, i), randomAmounts(r, containerLevel), randomAmounts(r, containerLevel))
		c.Ports = []corev1.ContainerPort{{ContainerPort: int32(8000 + i)}}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
		containers = append(containers, c)
	}
	return containers
}

// The resources that may be set at each level; few amounts, so that bounds are met exactly as well.
var (
	podLevel       = []string{"cpu=1", "cpu=2", "cpu=4", "memory=1Gi", "memory=4Gi", "hugepages-2Mi=4Mi"}
	containerLevel = []string{"cpu=0", "cpu=500m", "cpu=1", "cpu=2", "memory=1Gi", "memory=2Gi", "ephemeral-storage=1Gi",
		"hugepages-2Mi=2Mi", "example.com/gpu=1", "example.com/gpu=2"}
)

// randomAmounts returns up to three of the choices; of two amounts of one resource the later one counts.
func randomAmounts(r *rand.Rand, choices []string) string {
	var picked []string
	for range r.IntN(4) {
		picked = append(picked, choices[r.IntN(len(choices))])
	}
	return strings.Join(picked, ",")
}

// randomRanges returns one LimitRange with bounds and defaults of containers, and perhaps one with bounds of the pod. There
// are never two with defaults: which of them counts is left to chance in an API server.
func randomRanges(r *rand.Rand) []*corev1.LimitRange {
	const rarely = 4
	item := corev1.LimitRangeItem{Type: ofContainer, Default: amounts(randomAmounts(r, containerLevel)),
		DefaultRequest: amounts(randomAmounts(r, containerLevel))}
	if r.IntN(rarely) == 0 {
		item.Max = amounts("cpu=1,memory=2Gi")
	}
	if r.IntN(rarely) == 0 {
		item.Min = amounts("cpu=500m")
	}
	if r.IntN(rarely) == 0 {
		item.MaxLimitRequestRatio = amounts("cpu=2")
	}
	ranges := []*corev1.LimitRange{limitRange("containers", item)}
	if r.IntN(rarely) == 0 {
		ranges = append(ranges, limitRange("pod", corev1.LimitRangeItem{Type: ofPod, Max: amounts("cpu=4"), Min: amounts("memory=1Gi")}))
	}
	return ranges
}
