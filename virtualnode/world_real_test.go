package virtualnode_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

// realNode is the lab of the tests that want to see processes: a kubelet, containerd and runc play nothing.
var realNode = lab.NewShared(lab.Options{
	Lower: 1, RealNodes: 1, Parts: []string{lab.PartVirtualNode},
	Config: map[string]map[string]any{lab.PartVirtualNode: {"hint": "off"}},
})

// networked is the lab of the tests in which pods of two clusters talk to each other and to the upper API server.
var networked = lab.NewShared(lab.Options{
	Lower: 2, Networks: lab.Flat, Parts: []string{lab.PartExtender, lab.PartAdmission, lab.PartVirtualNode},
	Config: map[string]map[string]any{lab.PartVirtualNode: {
		"network": "flat", "allow": networkedPowers(), "tokenRefreshAfter": "20s",
	}},
})

// networkedPowers are those of pods in that lab: Kubernetes' own specs have them all.
func networkedPowers() []string {
	if os.Getenv(envConformance) != "" {
		return []string{"hostNamespaces", "hostPath", "privileged", "upperToken"}
	}
	return []string{"upperToken"}
}

// newNetworkedWorld is newRealWorld in the lab with networks.
func newNetworkedWorld(t *testing.T) *world {
	t.Helper()
	lab.NeedNetworks(t)
	w := newWorld(t, networked.Get(t))
	w.patience = 3 * time.Minute // Of eight pods at a time on a busy machine.
	return w
}

// newRealWorld gives a test a namespace in that lab. The tests run side by side: most of their time they wait for a process.
func newRealWorld(t *testing.T) *world {
	t.Helper()
	lab.NeedReal(t)
	w := newWorld(t, realNode.Get(t))
	w.patience = 3 * time.Minute // Of eight pods at a time on a busy machine.
	return w
}

// payload is a container that does these steps, see package payload.
func payload(name string, steps ...string) corev1.Container {
	return corev1.Container{Name: name, Image: realnode.Image, ImagePullPolicy: corev1.PullNever, Args: steps}
}

// doing makes the steps those of a pod's main container.
func doing(steps ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		main := &p.Spec.Containers[0]
		main.Image, main.ImagePullPolicy, main.Args = realnode.Image, corev1.PullNever, steps
	}
}

// sharing gives all containers of a pod the folder /shared.
func sharing(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mount := []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			containers[i].VolumeMounts = mount
		}
	}
}

// probe asks a port once a second.
func probe(port int) *corev1.Probe {
	get := &corev1.HTTPGetAction{Port: intstr.FromInt(port)}
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get}, PeriodSeconds: 1, FailureThreshold: 60}
}

// ended is the end of a pod's first container, nil before.
func ended(p *corev1.Pod) *corev1.ContainerStateTerminated {
	if len(p.Status.ContainerStatuses) == 0 {
		return nil
	}
	return p.Status.ContainerStatuses[0].State.Terminated
}

func isReady(p *corev1.Pod) bool {
	return running(p) && conditionOf(p.Status.Conditions, corev1.PodReady).Status == corev1.ConditionTrue
}

// cgroups are those of a lower pod, one a controller.
func cgroups(w *world, uid types.UID) []string {
	w.Helper()
	var all []string
	for _, hierarchy := range []string{"", "*/"} {
		for _, class := range []string{"", "*/"} {
			found, err := filepath.Glob("/sys/fs/cgroup/" + hierarchy + "ts*/kubepods/" + class + "pod" + string(uid))
			if err != nil {
				w.Fatal(err)
			}
			all = append(all, found...)
		}
	}
	return all
}

// processes are the ids of what runs of a lower pod, its sandbox included.
func processes(w *world, uid types.UID) []string {
	w.Helper()
	var ids []string
	for _, group := range cgroups(w, uid) {
		_ = filepath.WalkDir(group, func(path string, entry fs.DirEntry, _ error) error { // they come and go while one looks
			if entry != nil && entry.Name() == "cgroup.procs" {
				data, _ := os.ReadFile(path)
				ids = append(ids, strings.Fields(string(data))...)
			}
			return nil
		})
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// saw waits for an event of the lower kubelet on a pod above.
func (w *world) saw(pod, reason string) {
	w.Helper()
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
		if err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			if e.Reason == reason && e.Source.Component == w.lab.LowerName(1)+"/kubelet" {
				return nil
			}
			seen = append(seen, e.Source.Component+" "+e.Reason)
		}
		return fmt.Errorf("no event %s, only %v", reason, seen)
	})
}

// ends waits until nothing of a lower pod runs.
func (w *world) ends(uid types.UID) {
	w.Helper()
	w.eventually(func() error {
		if left := processes(w, uid); len(left) > 0 {
			return fmt.Errorf("processes %v are left", left)
		}
		return nil
	})
}
