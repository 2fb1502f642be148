package virtualnode_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// One lower cluster is joined once for each mode, and once with an account that may not patch the status of pods, each time with
// two nodes. The held one is half full, so that the lower scheduler by itself would take the other.
func TestEveryHintModeReachesTheHeldNode(t *testing.T) {
	t.Parallel()
	names := []string{"nominated", "preferred", "required", "off", "forbidden"}
	nodeName := func(i int) string { return fmt.Sprintf("lower-1-node-%04d", i+1) }
	perCluster, heldOf := map[string]any{"lower-1": map[string]any{"nodes": "!" + corev1.LabelHostname}}, map[string]string{}
	for i, name := range names {
		heldOf[name] = nodeName(2 * i)
		rules := map[string]any{"nodes": fmt.Sprintf("%s in (%s,%s)", corev1.LabelHostname, nodeName(2*i), nodeName(2*i+1))}
		if name != "nominated" && name != "forbidden" {
			rules["hint"] = name
		}
		perCluster[name] = rules
	}
	l := own(t, lab.Options{Lower: 1, Nodes: 2 * len(names), Config: map[string]map[string]any{lab.PartVirtualNode: {
		"extender": holds.server.URL, "extenderTokenFile": "", "perCluster": perCluster,
	}}})
	w := newWorld(t, l)
	joined, err := os.ReadFile(clusterFile(l, l.LowerName(1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "forbidden" {
			joined = w.withoutStatus(joined)
		}
		w.join(name, joined)
		w.halfFill(heldOf[name])
	}
	for _, c := range []struct {
		name, cluster       string
		preferred, required bool
		anywhere            bool
	}{
		{name: "by-status", cluster: "nominated"},
		{name: "by-preference", cluster: "preferred", preferred: true},
		{name: "by-demand", cluster: "required", required: true},
		{name: "not-at-all", cluster: "off", anywhere: true},
		{name: "status-forbidden", cluster: "forbidden", preferred: true},
		{name: "still-forbidden", cluster: "forbidden", preferred: true},
	} {
		held := heldOf[c.cluster]
		below := w.held(c.name, c.cluster, held)
		if (below.Spec.NodeName == held) == c.anywhere {
			t.Errorf("pod %s is on %s, room is held on %s", c.name, below.Spec.NodeName, held)
		}
		preferred, required := asksFor(below, held)
		if preferred != c.preferred || required != c.required {
			t.Errorf("pod %s prefers the node: %t, requires it: %t; want %t, %t", c.name, preferred, required, c.preferred, c.required)
		}
		if len(below.Spec.SchedulingGates) > 0 {
			t.Errorf("pod %s is behind %v", c.name, below.Spec.SchedulingGates)
		}
	}
	log, err := os.ReadFile(l.Process(lab.PartVirtualNode).LogFile())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "lets no status of pods be patched"); n != 1 {
		t.Errorf("%d lines say that the status may not be patched, want one", n)
	}
}

// asksFor tells in which ways a pod's affinity names the node.
func asksFor(pod *corev1.Pod, node string) (preferred, required bool) {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return false, false
	}
	hint := corev1.NodeSelectorRequirement{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}
	names := func(term corev1.NodeSelectorTerm) bool {
		return len(term.MatchFields) == 1 && term.MatchFields[0].String() == hint.String()
	}
	affinity := pod.Spec.Affinity.NodeAffinity
	preferred = slices.ContainsFunc(affinity.PreferredDuringSchedulingIgnoredDuringExecution,
		func(p corev1.PreferredSchedulingTerm) bool { return p.Weight == 100 && names(p.Preference) })
	demand := affinity.RequiredDuringSchedulingIgnoredDuringExecution
	return preferred, demand != nil && slices.ContainsFunc(demand.NodeSelectorTerms, names)
}

// clusterFile is where virtualnode reads the kubeconfig of a cluster.
func clusterFile(l *lab.Lab, name string) string {
	return filepath.Join(l.Dir(), "clusters", name+".kubeconfig")
}

// join makes the lower cluster of a kubeconfig a virtual node.
func (w *world) join(name string, kubeconfig []byte) {
	w.Helper()
	if err := os.WriteFile(clusterFile(w.lab, name), kubeconfig, 0o600); err != nil {
		w.Fatal(err)
	}
	w.nodeReady(name, corev1.ConditionTrue, "LowerAnswers")
}

// withoutStatus returns the kubeconfig for an account that may do all that Tessera's may but patch the status of pods.
func (w *world) withoutStatus(kubeconfig []byte) []byte {
	w.Helper()
	ctx, lower := w.Context(), w.lower(1)
	role, err := lower.RbacV1().ClusterRoles().Get(ctx, "tessera", metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	meta := metav1.ObjectMeta{Name: "no-status", Namespace: "default"}
	rules := slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "pods/status") })
	if len(rules) == len(role.Rules) {
		w.Fatal("Tessera's role gives no right to the status of pods, so this test shows nothing")
	}
	role = &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}
	if _, err := lower.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: meta.Name, Namespace: meta.Namespace}},
	}
	if _, err := lower.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	accounts := lower.CoreV1().ServiceAccounts(meta.Namespace)
	if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	token, err := accounts.CreateToken(ctx, meta.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		w.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		user.Token = token.Status.Token
	}
	other, err := clientcmd.Write(*config)
	if err != nil {
		w.Fatal(err)
	}
	return other
}

// halfFill runs a pod of the lower cluster's own on a node.
func (w *world) halfFill(node string) {
	w.Helper()
	half := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi")}
	container := corev1.Container{Name: "c", Image: "theirs", Resources: corev1.ResourceRequirements{Requests: half}}
	filler := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "filler-" + node},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{container}},
	}
	w.eventually(func() error { // The default account of the namespace may not be there yet.
		_, err := w.lower(1).CoreV1().Pods(metav1.NamespaceDefault).Create(w.Context(), filler, metav1.CreateOptions{})
		return err
	})
}

// held sends a pod that room is held for through a virtual node and returns it as it runs below.
func (w *world) held(name, cluster, node string) *corev1.Pod {
	w.Helper()
	upper := w.create(w.pod(name, 1, func(p *corev1.Pod) {
		gated(p) // until its UID is known to the extender
		p.Spec.NodeSelector[keys.Cluster] = cluster
	}))
	holds.set(func() { holds.node[upper.UID] = cluster + "/" + node })
	w.ungate(name)
	w.becomes(w.upper, name, "Running", running)
	return w.get(w.lower(1), name)
}
