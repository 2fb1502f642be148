package extender_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// path is the parts that carry a pod all the way.
var path = []string{lab.PartExtender, lab.PartVirtualNode, lab.PartAdmission}

// startLab starts a lab of the test's own.
func startLab(t *testing.T, options lab.Options) *lab.Lab {
	t.Helper()
	lab.Need(t)
	options.Log = t.Output()
	l, err := lab.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return l
}

func client(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newNamespace creates a namespace, opted in or not, and waits until pods can be created in it.
func newNamespace(t *testing.T, c kubernetes.Interface, name string, enabled bool) {
	t.Helper()
	labels := map[string]string{}
	if enabled {
		labels[keys.Enabled] = "true"
	}
	newNamespaceWith(t, c, name, labels)
}

// newOpenNamespace creates a namespace of a lower cluster that our pods may go to although we have not made it.
func newOpenNamespace(t *testing.T, c kubernetes.Interface, name string) {
	t.Helper()
	newNamespaceWith(t, c, name, map[string]string{keys.OpenTo: "any"})
}

func newNamespaceWith(t *testing.T, c kubernetes.Interface, name string, labels map[string]string) {
	t.Helper()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		_, err := c.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
}

// create makes a pod of that many CPUs and 256 MiB of memory for each of them.
func create(ctx context.Context, c kubernetes.Interface, namespace, name string, cpus int64) error {
	_, err := c.CoreV1().Pods(namespace).Create(ctx, newPod(name, corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(cpus, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(cpus<<28, resource.BinarySI),
	}), metav1.CreateOptions{})
	return err
}

// newPod is a pod of one container with these requests. It is gone at once when it is deleted.
func newPod(name string, requests corev1.ResourceList) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{
				Name: "c", Image: "registry.k8s.io/pause:3.10.1", Resources: corev1.ResourceRequirements{Requests: requests},
			}},
		},
	}
}

// runs says as an error how many pods of the namespace run, unless all of them do.
func runs(ctx context.Context, c kubernetes.Interface, namespace string, want int) error {
	pods, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	running, waiting := 0, ""
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning {
			running++
		} else {
			waiting = fmt.Sprintf("; %s on %q is %s: %v", pod.Name, pod.Spec.NodeName, pod.Status.Phase, pod.Status.Conditions)
		}
	}
	if running != want {
		return fmt.Errorf("%d of %d pods of %s run%s", running, want, namespace, waiting)
	}
	return nil
}

// get asks the extender.
func get(ctx context.Context, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return answer(request, into)
}

// post asks the extender with a body.
func post(ctx context.Context, url string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	return answer(request, into)
}

// answer sends a request and decodes the JSON that comes back.
func answer(request *http.Request, into any) error {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, data)
	}
	return json.Unmarshal(data, into)
}
