package virtualnode_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// logged tells as an error that virtualnode has not logged the words.
func logged(l *lab.Lab, words string) error {
	log, err := os.ReadFile(l.Process(lab.PartVirtualNode).LogFile())
	if err == nil && !strings.Contains(string(log), words) {
		err = fmt.Errorf("the log does not say %q", words)
	}
	return err
}

// What happens below while virtualnode cannot watch, and is too long ago to be told event by event, is found by listing.
func watchGap(w *troubled) {
	w.runs("gone")
	w.runs("unwanted")
	again := w.runs("again")
	w.front.does(func(r *http.Request) fault {
		switch {
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/pods"):
			return fault{answer: apierrors.NewServiceUnavailable("the network is gone")}
		case watches(r) && r.URL.Query().Get("sendInitialEvents") == "":
			return fault{answer: apierrors.NewResourceExpired("too old resource version")}
		default:
			return fault{}
		}
	}, true)
	w.inLog("the network is gone")
	now := int64(0)
	pods := w.lower(1).CoreV1().Pods(w.ns)
	for _, err := range []error{
		pods.Delete(w.Context(), "gone", metav1.DeleteOptions{GracePeriodSeconds: &now}),
		pods.Delete(w.Context(), "again", metav1.DeleteOptions{GracePeriodSeconds: &now}),
		w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), "again", metav1.DeleteOptions{GracePeriodSeconds: &now}),
		w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), "unwanted", metav1.DeleteOptions{GracePeriodSeconds: &now}),
	} {
		if err != nil {
			w.Fatal(err)
		}
	}
	w.create(w.pod("again", 1))
	w.create(w.pod("new", 1, never))
	w.front.does(func(r *http.Request) fault {
		if watches(r) && r.URL.Query().Get("sendInitialEvents") == "" {
			return fault{answer: apierrors.NewResourceExpired("too old resource version")}
		}
		return fault{}
	}, false)
	w.becomesSoon("gone", "Failed", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "LowerPodGone"
	})
	w.front.does(nil, false)
	w.becomesSoon("again", "Running", running)
	w.becomesSoon("new", "Running", running)
	w.vanishes(w.lower(1), "unwanted")
	if below := w.get(w.lower(1), "again"); below.UID == again.UID {
		w.Error("the pod made again above is still the old one below")
	}
}

// outage is how long the lower API server is away: in real life it takes minutes, longer than standard tolerations.
func outage() time.Duration {
	if lab.Chaos() {
		return 6 * time.Minute
	}
	return 20 * time.Second
}

// policies are the restart policies, each with a word for names.
var policies = map[string]corev1.RestartPolicy{
	"never": corev1.RestartPolicyNever, "failed": corev1.RestartPolicyOnFailure, "always": corev1.RestartPolicyAlways,
}

// The lower API server is away for a while. Pods that ran run on, new ones wait, deleted ones go when it is back.
func lowerDownAndBack(w *troubled) {
	before := map[string]types.UID{}
	pods := w.upper.CoreV1().Pods(w.ns)
	for word, policy := range policies {
		kind := func(p *corev1.Pod) {
			p.Spec.RestartPolicy = policy
			for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} { // What is shown is not eviction.
				p.Spec.Tolerations = append(p.Spec.Tolerations,
					corev1.Toleration{Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
			}
		}
		before["runs-"+word] = w.runs("runs-"+word, kind).UID
		w.runs("deleted-"+word, kind)
		w.create(w.pod("new-"+word, 1, kind, func(p *corev1.Pod) {
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "test/wait"}}
		}))
	}
	server := w.lab.Process(w.node + "/apiserver")
	server.Kill()
	begin := time.Now()
	var errs []error
	for word := range policies { // Bound before the node is NotReady: the creation is on its way while nobody answers.
		_, err := pods.Patch(w.Context(), "new-"+word, types.StrategicMergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{})
		errs = append(errs, err, pods.Delete(w.Context(), "deleted-"+word, metav1.DeleteOptions{}))
	}
	if err := errors.Join(errs...); err != nil {
		w.Fatal(err)
	}
	w.Logf("the node says: %s", w.nodeReady(w.node, corev1.ConditionFalse, "LowerUnreachable").Message)
	w.nodeReady(w.lab.LowerName(2), corev1.ConditionTrue, "LowerAnswers") // The other cluster does not notice.
	w.create(w.pod("elsewhere", 2))
	w.becomes(w.upper, "elsewhere", "Running", running)
	lab.Eventually(w.T, outage()+patience, func() error {
		for word := range policies {
			for name, phase := range map[string]corev1.PodPhase{
				"runs-" + word: corev1.PodRunning, "new-" + word: corev1.PodPending, "deleted-" + word: corev1.PodRunning,
			} {
				if pod := w.get(w.upper, name); pod.Status.Phase != phase {
					w.Fatalf("while the cluster is away pod %s is %s %s, want %s", name, pod.Status.Phase, pod.Status.Reason, phase)
				}
			}
		}
		if left := outage() - time.Since(begin); left > 0 {
			return fmt.Errorf("%s left", left)
		}
		return nil
	})
	if err := server.Restart(context.WithoutCancel(w.Context())); err != nil {
		w.Fatal(err)
	}
	begin = time.Now()
	for word := range policies {
		w.becomesSoon("new-"+word, "Running", running)
		w.recovers(func() error {
			if _, err := pods.Get(w.Context(), "deleted-"+word, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("pod deleted-%s is still there: %w", word, err)
			}
			return nil
		})
		if below := w.get(w.lower(1), "runs-"+word); below.UID != before["runs-"+word] || below.DeletionTimestamp != nil {
			w.Errorf("pod runs-%s was replaced or deleted", word)
		}
	}
	w.recovers(func() error {
		node, err := w.upper.CoreV1().Nodes().Get(w.Context(), w.node, metav1.GetOptions{})
		if err == nil && conditionReason(node) != "LowerAnswers" {
			err = fmt.Errorf("the node says %s", conditionReason(node))
		}
		return err
	})
	if err := pods.Delete(w.Context(), "elsewhere", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.vanishes(w.upper, "elsewhere")
	w.Logf("all was well %s after the API server was back", time.Since(begin).Round(100*time.Millisecond))
}
