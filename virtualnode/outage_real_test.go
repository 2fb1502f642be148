package virtualnode_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// The tests here take away what the others need. Those run side by side, and so after these.

// The kubelet may be away for a while: pods run on and are not started again, what is deleted meanwhile stays above until it has
// ended, and new pods run afterwards.
func TestRealKubeletRestarts(t *testing.T) {
	w := newRealWorld(t)
	lower := w.lower(1)
	serving := func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = probe(8080) }
	w.create(w.pod("stays", 1, doing("serve=8080", "wait"), serving))
	w.create(w.pod("goes", 1, doing("wait")))
	before := w.becomes(w.upper, "stays", "Ready", isReady).Status.ContainerStatuses[0]
	w.becomes(w.upper, "goes", "Running", running)
	kubelet := w.lab.Process(w.lab.LowerName(1) + "/kubelet")
	kubelet.Kill()
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "goes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	goes := w.becomes(lower, "goes", "ending", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	w.get(w.upper, "goes") // It is there as long as it runs below.
	if got := processes(w, goes.UID); len(got) != 2 {
		t.Errorf("without a kubelet %v run of the deleted pod, want its two processes", got)
	}
	if err := kubelet.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.create(w.pod("comes", 1, doing("wait")))
	w.becomes(w.upper, "comes", "Ready", isReady)
	w.vanishes(w.upper, "goes")
	w.ends(goes.UID)
	after := w.becomes(w.upper, "stays", "Ready", isReady).Status.ContainerStatuses[0]
	if after.ContainerID != before.ContainerID || after.RestartCount != 0 {
		t.Errorf("the container was %+v and is %+v", before, after)
	}
}

// The lower API server and virtualnode may be away, too: pods run on, and how one has ended meanwhile shows above afterwards.
func TestRealServerIsAway(t *testing.T) {
	w := newRealWorld(t)
	w.create(w.pod("stays", 1, doing("wait")))
	w.create(w.pod("ends", 1, never, doing("wait", "exit=3")))
	before := w.becomes(w.upper, "stays", "Ready", isReady).Status.ContainerStatuses[0]
	w.becomes(w.upper, "ends", "Running", running)
	uid := w.get(w.lower(1), "ends").UID
	server, part := w.lab.Process(w.lab.LowerName(1)+"/apiserver"), w.lab.Process(lab.PartVirtualNode)
	server.Kill()
	part.Kill()
	w.terminate(uid, "exit=3")
	for _, p := range []*lab.Process{server, part} {
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	failed := w.becomes(w.upper, "ends", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if end := ended(failed); end == nil || end.ExitCode != 3 {
		t.Errorf("it ended as %+v", end)
	}
	after := w.becomes(w.upper, "stays", "Ready", isReady).Status.ContainerStatuses[0]
	if after.ContainerID != before.ContainerID || after.RestartCount != 0 {
		t.Errorf("the container was %+v and is %+v", before, after)
	}
}

// terminate sends SIGTERM to the process of a lower pod with that argument, and waits until it has ended.
func (w *world) terminate(uid types.UID, argument string) {
	w.Helper()
	sent := false
	w.eventually(func() error {
		for _, id := range processes(w, uid) {
			line, _ := os.ReadFile("/proc/" + id + "/cmdline") // it may have ended meanwhile
			if !strings.Contains(string(line), argument) {
				continue
			}
			pid, err := strconv.Atoi(id)
			if err == nil && !sent {
				err = syscall.Kill(pid, syscall.SIGTERM)
				sent = err == nil
			}
			return errors.Join(fmt.Errorf("process %s still runs", id), err)
		}
		return nil
	})
	if !sent {
		w.Fatalf("no process of the pod has the argument %s", argument)
	}
}
