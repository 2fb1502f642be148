package extender_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// nameTaken: a pod whose name somebody has below is not sent there, and is as soon as the name is free. The same of a
// namespace until it is opened.
func (r *rules) nameTaken(t *testing.T) {
	newNamespace(t, r.upper, "taken", true)
	defer r.empty(t, "taken")
	newNamespace(t, r.lower[0], "taken", false)
	if err := create(t.Context(), r.lower[0], "taken", "web", 1); err != nil {
		t.Fatal(err)
	}
	r.create(t, "taken", pinned(newPod("db", cpus(1)), "lower-1"))
	r.refusedWith(t, "taken", "db", string(keys.NameConflict))
	open := fmt.Appendf(nil, `{"metadata":{"labels":{%q:"any"}}}`, keys.OpenTo)
	if _, err := r.lower[0].CoreV1().Namespaces().Patch(t.Context(), "taken", types.MergePatchType, open, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	r.boundTo(t, "taken", "db", "lower-1")
	r.create(t, "taken", pinned(newPod("web", cpus(1)), "lower-1"))
	r.refusedWith(t, "taken", "web", string(keys.NameConflict))
	if err := r.lower[0].CoreV1().Pods("taken").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.boundTo(t, "taken", "web", "lower-1")
}

// kubeletRefused: a lower pod that a kubelet did not let in keeps pods like it away from that node, and from no other.
func (r *rules) kubeletRefused(t *testing.T) {
	newNamespace(t, r.upper, "kubelet", true)
	defer r.empty(t, "kubelet")
	r.create(t, "kubelet", pinned(newPod("first", cpus(3)), "lower-2"))
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), r.upper, "kubelet", 1) })
	pods := r.lower[1].CoreV1().Pods("kubelet")
	below, err := pods.Get(t.Context(), "first", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	failed := []byte(`{"status":{"phase":"Failed","reason":"OutOfcpu","message":"Pod was rejected: Node didn't have enough resource: cpu"}}`)
	if _, err := pods.Patch(t.Context(), "first", types.MergePatchType, failed, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		var cluster struct {
			NodeList []struct {
				Name    string
				Avoided int
			}
		}
		if err := get(t.Context(), r.lab.ExtenderURL()+"/debug/clusters/lower-2", &cluster); err != nil {
			return err
		}
		for _, node := range cluster.NodeList {
			if want := node.Name == below.Spec.NodeName; (node.Avoided == 1) != want {
				return fmt.Errorf("%+v, and %s refused the pod", cluster.NodeList, below.Spec.NodeName)
			}
		}
		return nil
	})
	names := []string{"second", "third", "fourth"}
	for _, name := range names {
		r.create(t, "kubelet", pinned(newPod(name, cpus(3)), "lower-2"))
	}
	lab.Eventually(t, time.Minute, func() error {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			if !slices.Contains(names, pod.Name) {
				continue
			}
			if pod.Spec.NodeName == "" {
				return fmt.Errorf("%s has no node yet", pod.Name)
			}
			if pod.Spec.NodeName == below.Spec.NodeName {
				t.Fatalf("%s went to %s, which had refused a pod like it", pod.Name, pod.Spec.NodeName)
			}
		}
		if len(list.Items) < len(names) {
			return fmt.Errorf("only %d pods are below", len(list.Items))
		}
		return nil
	})
}

// unasked: a pod that got its virtual node by hand is counted, and named in what `tessera status` prints.
func (r *rules) unasked(t *testing.T) {
	newNamespace(t, r.upper, "by-hand", false)
	defer r.empty(t, "by-hand")
	var answer struct{ Clusters []unaskedCluster }
	url := r.lab.ExtenderURL() + "/debug/clusters"
	if err := get(t.Context(), url, &answer); err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(answer.Clusters)
	pod := newPod("stray", cpus(1))
	pod.Spec.NodeName = "lower-1"
	r.create(t, "by-hand", pod)
	lab.Eventually(t, time.Minute, func() error {
		if err := get(t.Context(), url, &answer); err != nil {
			return err
		}
		for i, c := range answer.Clusters {
			if c.Name == "lower-1" && (c.UnaskedBinds != before[i].UnaskedBinds+1 || c.LastUnaskedBind != "by-hand/stray") {
				return fmt.Errorf("%+v, before %+v", answer.Clusters, before)
			}
		}
		return nil
	})
	for _, c := range before {
		if c.UnaskedBinds != 0 {
			t.Errorf("of pods that the scheduler asked about %d are counted as %s", c.UnaskedBinds, c.LastUnaskedBind)
		}
	}
}

// unaskedCluster is what the tests read of /debug/clusters.
type unaskedCluster struct {
	Name            string
	UnaskedBinds    int
	LastUnaskedBind string
}
