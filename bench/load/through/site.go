package through

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// Progress takes a line about work under way.
type Progress func(format string, args ...any)

// creators is how many pods are being created at the same time.
const creators = 32

// lowerNodes is how many nodes the lower cluster has.
const lowerNodes = 10

// settled bounds every wait for things that take moments.
const settled = 2 * time.Minute

// site is a lab with one lower cluster and the bench's own access to it.
type site struct {
	lab          *lab.Lab
	upper, lower kubernetes.Interface
	progress     Progress
	profiles     string // folder for processor profiles, "" for none
}

// newSite starts a lab whose lower cluster has room for every load. virtualnode runs and is told no hints.
func newSite(ctx context.Context, out io.Writer, progress Progress, config map[string]any) (*site, error) {
	return newSites(ctx, out, progress, 1, config)
}

// newSites is newSite with several such clusters; that of the site is the first.
func newSites(ctx context.Context, out io.Writer, progress Progress, lower int, config map[string]any) (*site, error) {
	l, err := lab.Start(ctx, lab.Options{
		Lower: lower, Nodes: lowerNodes, Parts: []string{lab.PartVirtualNode}, BoundByHand: true, Log: out,
		Shapes: []lab.Shape{{Resources: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("200"), corev1.ResourceMemory: resource.MustParse("800Gi"),
			corev1.ResourcePods: resource.MustParse("2000"),
		}}},
		Config: map[string]map[string]any{lab.PartVirtualNode: config},
	})
	if err != nil {
		return nil, err
	}
	s := &site{lab: l, progress: progress}
	if s.upper, err = lab.NewClient(l.Upper()); err == nil {
		s.lower, err = lab.NewClient(l.Lower(1))
	}
	if err != nil {
		l.Stop()
		return nil, err
	}
	return s, nil
}

// nodes are the names of the lower nodes.
func (s *site) nodes() []string {
	names := make([]string, lowerNodes)
	for i := range names {
		names[i] = s.lab.NodeName(1, i+1)
	}
	return names
}

// pod is a pod as the upper scheduler leaves it: through admission and bound to a node; node "" leaves it to a scheduler.
func pod(namespace, name, node string) *corev1.Pod {
	zero, no := resource.MustParse("0"), false
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "load"}},
		Spec: corev1.PodSpec{
			NodeName:                      node,
			TerminationGracePeriodSeconds: new(int64),
			AutomountServiceAccountToken:  &no,
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name: "c", Image: "registry.k8s.io/pause:3.10.1",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
				}},
			}},
		},
	}
	if node != "" {
		p.Spec.Containers[0].Resources.Requests[keys.PodResource] = zero
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{keys.PodResource: zero}
	}
	return p
}

// namespace makes a namespace and waits until pods can be created in it.
func namespace(ctx context.Context, c kubernetes.Interface, name string) error {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.Enabled: "true"}}}
	if _, err := c.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating namespace: %w", err)
	}
	return until(ctx, func(ctx context.Context) error {
		_, err := c.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// create makes n pods as fast as the API server takes them.
func create(ctx context.Context, c kubernetes.Interface, namespace, node string, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range n {
		group.Go(func() error {
			if _, err := c.CoreV1().Pods(namespace).Create(ctx, pod(namespace, podName(i), node), metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("creating pod: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

func podName(i int) string { return fmt.Sprintf("p%05d", i) }

// clear deletes a namespace's pods on both sides at once and waits until they have gone.
func (s *site) clear(ctx context.Context, namespace string) error {
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	for _, c := range []kubernetes.Interface{s.upper, s.lower} {
		if err := c.CoreV1().Pods(namespace).DeleteCollection(ctx, now, metav1.ListOptions{}); err != nil {
			return fmt.Errorf("deleting pods: %w", err)
		}
	}
	return until(ctx, func(ctx context.Context) error {
		for _, c := range []kubernetes.Interface{s.upper, s.lower} {
			pods, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
			if err != nil {
				return fmt.Errorf("listing pods: %w", err)
			}
			if len(pods.Items) > 0 {
				return fmt.Errorf("%d pods are still there", len(pods.Items))
			}
		}
		return nil
	})
}

// until tries until there is no error; when that takes too long the last one comes back.
func until(ctx context.Context, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, settled, true, func(ctx context.Context) (bool, error) {
		last = try(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("not within %s: %w (last: %w)", settled, err, last)
	}
	return nil
}
