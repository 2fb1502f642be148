package extender_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// The agreement: so many random pods, one after the other, on one lower cluster.
const (
	agreementPods  = 250 // twice as many in `make chaos`
	agreementNodes = 14
	agreementSeed  = 5
)

// TestAgreement compares the extender's word with what the real kube-scheduler below then does. Every pod is asked about
// and then created below, whatever the answer: one that fits has to get a node, and one that does not has to stay
// unschedulable. Pods leave, nodes are cordoned, tainted and come back meanwhile.
func TestAgreement(t *testing.T) {
	l := startLab(t, lab.Options{
		Lower: 1, Nodes: agreementNodes, Parts: []string{lab.PartExtender},
		Shapes: []lab.Shape{
			{Count: 4, Resources: quantities("cpu", "16", "memory", "64Gi", "pods", "12", "example.com/gpu", "4")},
			{Count: 4, Resources: quantities("cpu", "8", "memory", "16Gi", "pods", "110", "ephemeral-storage", "100Gi")},
			{Resources: quantities("cpu", "4", "memory", "8Gi", "pods", "6")},
		},
	})
	a := &agreement{
		t: t, random: rand.New(rand.NewPCG(agreementSeed, 1)), lower: client(t, l.Lower(1)), url: l.ExtenderURL(),
		alive: map[types.NamespacedName]string{}, answers: map[string]int{},
	}
	if _, err := client(t, l.UpperAs(lab.PartVirtualNode)).CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "lower-1", Labels: map[string]string{keys.Cluster: "lower-1"}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a.furnish()
	started, pods := time.Now(), agreementPods
	if lab.Chaos() {
		pods *= 2
	}
	asked := 0
	for ; asked < pods || (asked < 2*pods && a.missing() != nil); asked++ { // What comes together differs from run to run.
		a.step(asked)
		if t.Failed() {
			t.Fatalf("stopped after %d pods", asked+1)
		}
	}
	t.Logf("%d pods in %.0f s, by answer: %v", asked, time.Since(started).Seconds(), a.answers)
	if missing := a.missing(); missing != nil {
		t.Errorf("no pod was answered %q: the random pods no longer test it", missing)
	}
}

// missing are the answers that no pod has had and some should.
func (a *agreement) missing() (reasons []keys.Reason) {
	for _, reason := range []keys.Reason{"", keys.HostPort, keys.PodAffinity, keys.Spread, keys.Volume, keys.Quota, keys.NodeAffinity, keys.Fragmented} {
		if a.answers[string(reason)] == 0 {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

type agreement struct {
	t       *testing.T
	random  *rand.Rand
	lower   kubernetes.Interface
	url     string
	alive   map[types.NamespacedName]string // pods that have a node, and which
	answers map[string]int                  // by reason, "" for those that fit
	claims  []string                        // volume claims that pods can use
}

func quantities(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

// The namespaces: two plain ones, one with a LimitRange and one with a quota.
const (
	spaceA, spaceB, spaceLimited, spaceQuota = "a", "b", "limited", "quota"
)

// furnish makes what pods refer to.
func (a *agreement) furnish() {
	a.t.Helper()
	ctx := a.t.Context()
	must := func(err error) {
		a.t.Helper()
		if err != nil {
			a.t.Fatal(err)
		}
	}
	for _, name := range []string{spaceA, spaceB, spaceLimited, spaceQuota} {
		newOpenNamespace(a.t, a.lower, name)
	}
	_, err := a.lower.CoreV1().Namespaces().Patch(ctx, spaceB, types.MergePatchType, []byte(`{"metadata":{"labels":{"team":"b"}}}`), metav1.PatchOptions{})
	must(err)
	_, err = a.lower.CoreV1().LimitRanges(spaceLimited).Create(ctx, &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Name: "l"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, DefaultRequest: quantities("cpu", "1500m", "memory", "1Gi"),
			Default: quantities("cpu", "12", "memory", "16Gi"), Max: quantities("cpu", "12"),
		}}},
	}, metav1.CreateOptions{})
	must(err)
	_, err = a.lower.CoreV1().ResourceQuotas(spaceQuota).Create(ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "q"},
		Spec:       corev1.ResourceQuotaSpec{Hard: quantities("requests.cpu", "12", "pods", "8")},
	}, metav1.CreateOptions{})
	must(err)
	nodes, err := a.lower.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	must(err)
	for i, node := range nodes.Items {
		labels := fmt.Appendf(nil, `{"metadata":{"labels":{"zone":%q,"disk":%q}}}`, []string{"x", "y", "z"}[i%3], []string{"ssd", "hdd"}[i%2])
		_, err := a.lower.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, labels, metav1.PatchOptions{})
		must(err)
	}
	for i := range 4 {
		a.volume(fmt.Sprint("data-", i), nodes.Items[i*3].Name)
	}
	a.claims = append(a.claims, "missing")
	a.devices(nodes.Items[2].Name, nodes.Items[9].Name)
}

// volume makes a volume that one node alone can reach, and the claim it is bound to.
func (a *agreement) volume(name, node string) {
	a.t.Helper()
	ctx, size, class := a.t.Context(), quantities("storage", "1Gi"), ""
	claim, err := a.lower.CoreV1().PersistentVolumeClaims(spaceA).Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeName: name, StorageClassName: &class,
			Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.lower.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: claim.Spec.AccessModes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/data"}},
			ClaimRef:               &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: spaceA, Name: name, UID: claim.UID},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
	}, metav1.CreateOptions{}); err != nil {
		a.t.Fatal(err)
	}
	a.claims = append(a.claims, name)
	lab.Eventually(a.t, time.Minute, func() error {
		claim, err := a.lower.CoreV1().PersistentVolumeClaims(spaceA).Get(ctx, name, metav1.GetOptions{})
		if err == nil && claim.Status.Phase != corev1.ClaimBound {
			err = fmt.Errorf("claim %s is %s", name, claim.Status.Phase)
		}
		return err
	})
}

// devices makes a device class that gives the extended resource example.com/fpga, and nodes with two devices each.
func (a *agreement) devices(nodes ...string) {
	a.t.Helper()
	name := "example.com/fpga"
	if _, err := a.lower.ResourceV1().DeviceClasses().Create(a.t.Context(), &resourcev1.DeviceClass{
		ObjectMeta: metav1.ObjectMeta{Name: "fpga"}, Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: &name},
	}, metav1.CreateOptions{}); err != nil {
		a.t.Fatal(err)
	}
	for _, node := range nodes {
		if _, err := a.lower.ResourceV1().ResourceSlices().Create(a.t.Context(), &resourcev1.ResourceSlice{
			ObjectMeta: metav1.ObjectMeta{Name: "fpga-" + node},
			Spec: resourcev1.ResourceSliceSpec{
				Driver: "example.com", NodeName: &node, Pool: resourcev1.ResourcePool{Name: node, ResourceSliceCount: 1},
				Devices: []resourcev1.Device{{Name: "one"}, {Name: "two"}},
			},
		}, metav1.CreateOptions{}); err != nil {
			a.t.Fatal(err)
		}
	}
}

// step asks about a pod, creates it and compares; then something else happens.
func (a *agreement) step(i int) {
	a.t.Helper()
	pod := a.pod(fmt.Sprint("p", i))
	answer := a.ask(pod)
	a.answers[answer.Reason]++
	created, err := a.lower.CoreV1().Pods(pod.Namespace).Create(a.t.Context(), pod, metav1.CreateOptions{})
	if err != nil { // A quota or a limit range, which the extender may have had no need to ask.
		if answer.Fits {
			a.disagree(pod, answer, "the API server below refused it: "+err.Error())
		}
		return
	}
	if answer.Reason == string(keys.Quota) {
		a.disagree(pod, answer, "the API server below took it")
		return
	}
	var fate string
	lab.Eventually(a.t, time.Minute, func() error {
		now, err := a.lower.CoreV1().Pods(pod.Namespace).Get(a.t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if fate = fateOf(now); fate == "" {
			return fmt.Errorf("the lower scheduler has not come to %s yet: %v", pod.Name, now.Status.Conditions)
		}
		return nil
	})
	bound := fate != "unschedulable"
	if bound != answer.Fits {
		a.disagree(created, answer, "below it is "+fate)
	}
	if bound {
		a.alive[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}] = fate
	} else {
		a.remove(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
	}
	a.churn()
	a.synced()
}

// fateOf is the pod's node, "unschedulable", or "" while the scheduler has not spoken.
func fateOf(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	if slices.ContainsFunc(pod.Status.Conditions, refused) {
		return "unschedulable"
	}
	return ""
}

func (a *agreement) disagree(pod *corev1.Pod, answer agreementAnswer, what string) {
	a.t.Helper()
	spec, err := json.Marshal(pod)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Errorf("the extender says %+v, but %s\n%s", answer, what, spec)
}

type agreementAnswer struct {
	Fits         bool
	Node, Reason string
}

func (a *agreement) ask(pod *corev1.Pod) agreementAnswer {
	a.t.Helper()
	var answer struct{ Clusters []agreementAnswer }
	// NotSynced is no answer yet: the first pod with a claim makes the extender watch claims.
	lab.Eventually(a.t, time.Minute, func() error {
		if err := post(a.t.Context(), a.url+"/debug/whatif", pod, &answer); err != nil {
			return err
		}
		if len(answer.Clusters) != 1 || answer.Clusters[0].Reason == string(keys.NotSynced) {
			return fmt.Errorf("no answer: %+v", answer)
		}
		return nil
	})
	return answer.Clusters[0]
}

func (a *agreement) chance(share float64) bool { return a.random.Float64() < share }

func (a *agreement) one(of ...string) string { return of[a.random.IntN(len(of))] }

// churn lets pods leave and nodes change.
func (a *agreement) churn() {
	a.t.Helper()
	// The fuller the cluster, the more leave, so that both answers stay frequent.
	for range len(a.alive) / 25 {
		if a.chance(0.6) {
			names := slices.SortedFunc(maps.Keys(a.alive), func(x, y types.NamespacedName) int { return bytes.Compare([]byte(x.String()), []byte(y.String())) })
			a.remove(names[a.random.IntN(len(names))])
		}
	}
	if !a.chance(0.15) {
		return
	}
	nodes, err := a.lower.CoreV1().Nodes().List(a.t.Context(), metav1.ListOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	node := nodes.Items[a.random.IntN(len(nodes.Items))]
	patch := a.one(`{"spec":{"unschedulable":true}}`, `{"spec":{"unschedulable":null,"taints":null}}`, `{"spec":{"unschedulable":null,"taints":null}}`,
		`{"spec":{"taints":[{"key":"k","value":"v","effect":"NoSchedule"}]}}`)
	if _, err := a.lower.CoreV1().Nodes().Patch(a.t.Context(), node.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

// remove deletes a pod and waits until it has gone, and with it what quotas and claims count of it.
func (a *agreement) remove(name types.NamespacedName) {
	a.t.Helper()
	delete(a.alive, name)
	err := a.lower.CoreV1().Pods(name.Namespace).Delete(a.t.Context(), name.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil {
		a.t.Fatal(err)
	}
}

// synced waits until the lower cluster has come to rest and the extender has seen it.
func (a *agreement) synced() {
	a.t.Helper()
	lab.Eventually(a.t, time.Minute, func() error {
		nodes, err := a.lower.CoreV1().Nodes().List(a.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var seen struct {
			Pods     int
			NodeList []struct {
				Name     string
				Pods     int
				Cordoned bool
				Taints   []corev1.Taint
			}
		}
		if err := get(a.t.Context(), a.url+"/debug/clusters/lower-1", &seen); err != nil {
			return err
		}
		on := map[string]int{}
		for _, node := range a.alive {
			on[node]++
		}
		if seen.Pods != len(a.alive) || len(seen.NodeList) != len(nodes.Items) {
			return fmt.Errorf("the extender sees %d pods and %d nodes, want %d and %d", seen.Pods, len(seen.NodeList), len(a.alive), len(nodes.Items))
		}
		for i, node := range nodes.Items { // Both in order of names.
			if s := seen.NodeList[i]; s.Pods != on[node.Name] || s.Cordoned != node.Spec.Unschedulable || len(s.Taints) != len(node.Spec.Taints) ||
				node.Spec.Unschedulable != slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeUnschedulable }) {
				return fmt.Errorf("the extender sees %+v, want %d pods, cordoned %t and taints %v", s, on[node.Name], node.Spec.Unschedulable, node.Spec.Taints)
			}
		}
		return a.settled()
	})
}

// settled says as an error that controllers below still work off a pod that has gone.
func (a *agreement) settled() error {
	quota, err := a.lower.CoreV1().ResourceQuotas(spaceQuota).Get(a.t.Context(), "q", metav1.GetOptions{})
	if err != nil {
		return err
	}
	pods := 0
	for name := range a.alive {
		if name.Namespace == spaceQuota {
			pods++
		}
	}
	if used := quota.Status.Used[corev1.ResourcePods]; len(quota.Status.Hard) == 0 || used.Value() != int64(pods) {
		return fmt.Errorf("the quota counts %v, want %d pods", quota.Status.Used, pods)
	}
	claims, err := a.lower.ResourceV1().ResourceClaims(metav1.NamespaceAll).List(a.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, claim := range claims.Items {
		if owner := metav1.GetControllerOf(&claim); owner != nil {
			if _, ok := a.alive[types.NamespacedName{Namespace: claim.Namespace, Name: owner.Name}]; !ok {
				return fmt.Errorf("claim %s of pod %s is still there", claim.Name, owner.Name)
			}
		}
	}
	return nil
}
