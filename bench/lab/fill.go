package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// FillNamespace holds the filler pods.
const FillNamespace = "lab-fill"

// holesFunc tells what stays free on a node; ok=false leaves the node empty.
type holesFunc func(cluster, node int) (free corev1.ResourceList, ok bool)

// holes gives the function that Options ask for.
func (o *Options) holes() (holesFunc, error) {
	switch {
	case o.Holes != nil:
		return o.Holes, nil
	case o.Fill == FillEmpty:
		return func(int, int) (corev1.ResourceList, bool) { return nil, false }, nil
	case o.Fill == FillFragmented:
		return o.fragmented(), nil
	}
	return holesFromFile(o.Fill)
}

// fragmented makes totals that look roomy out of small holes: in each cluster one or two nodes have 8 CPU free, a tenth of
// them 4, all others 1 or 2, with memory in proportion.
func (o *Options) fragmented() holesFunc {
	cpus := map[int][]int64{}
	for k := 1; k <= o.Lower; k++ {
		nodes, _ := o.nodeShapes(k) // validate has refused errors
		cpus[k] = fragments(len(nodes), rand.New(rand.NewPCG(uint64(o.Seed), uint64(k))))
	}
	return func(cluster, node int) (corev1.ResourceList, bool) {
		return corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(cpus[cluster][node-1], resource.DecimalSI)}, true
	}
}

// fragments deals n holes, in whole CPUs.
func fragments(n int, rng *rand.Rand) []int64 {
	eights, fours := 0, 0
	if n >= 4 {
		eights, fours = 1, max(1, n/10)
	}
	if n >= 20 {
		eights += rng.IntN(2)
	}
	out := make([]int64, n)
	for i, at := range rng.Perm(n) {
		switch {
		case i < eights:
			out[at] = 8
		case i < eights+fours:
			out[at] = 4
		default:
			out[at] = 1 + rng.Int64N(2)
		}
	}
	return out
}

// holesFromFile reads a list of holes: {node: NAME} or {cluster: NAME, index: N}, and the resources that stay free, such as
// cpu: "2". Nodes that are not in the list have no hole at all.
func holesFromFile(file string) (holesFunc, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the holes: --fill is neither %s, %s nor a file: %w", FillEmpty, FillFragmented, err)
	}
	var list []map[string]any
	if err := yaml.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("reading the holes in %s: %w", file, err)
	}
	holes := map[string]corev1.ResourceList{}
	for i, item := range list {
		name, free, err := parseHole(item)
		if err != nil {
			return nil, fmt.Errorf("reading the holes in %s: item %d: %w", file, i+1, err)
		}
		holes[name] = free
	}
	return func(cluster, node int) (corev1.ResourceList, bool) {
		free := holes[fmt.Sprintf("lower-%d-node-%04d", cluster, node)]
		if free == nil {
			free = corev1.ResourceList{corev1.ResourceCPU: resource.Quantity{}}
		}
		return free, true
	}, nil
}

func parseHole(item map[string]any) (node string, free corev1.ResourceList, err error) {
	free = corev1.ResourceList{}
	var cluster, index string
	for key, value := range item {
		text := fmt.Sprint(value)
		switch key {
		case "node":
			node = text
		case "cluster":
			cluster = text
		case "index":
			index = text
		default:
			q, err := resource.ParseQuantity(text)
			if err != nil || !knownResource(key) {
				return "", nil, fmt.Errorf("%q: %q is not a resource and its quantity", key, text)
			}
			free[corev1.ResourceName(key)] = q
		}
	}
	if node != "" {
		return node, free, nil
	}
	n := 0
	if _, err := fmt.Sscanf(index, "%d", &n); err != nil || cluster == "" || n < 1 {
		return "", nil, fmt.Errorf("it needs node, or cluster and index (from 1)")
	}
	return fmt.Sprintf("%s-node-%04d", cluster, n), free, nil
}

// filler gives what filler pods request on a node so that free is left: a resource that free does not name is left in
// proportion to cpu if it is memory, and untouched otherwise.
func filler(capacity, free corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	take := func(name corev1.ResourceName, left resource.Quantity) {
		q := capacity[name].DeepCopy()
		q.Sub(left)
		if q.Sign() > 0 {
			out[name] = q
		}
	}
	for name, left := range free {
		if name != corev1.ResourcePods {
			take(name, left)
		}
	}
	cpu, named := free[corev1.ResourceCPU]
	if _, both := free[corev1.ResourceMemory]; named && !both && capacity.Cpu().MilliValue() > 0 {
		part := float64(capacity.Memory().Value()) * float64(cpu.MilliValue()) / float64(capacity.Cpu().MilliValue())
		take(corev1.ResourceMemory, *resource.NewQuantity(int64(part), resource.BinarySI))
	}
	return out
}

// fill creates one filler pod a node, bound directly, so that no scheduler has a say.
func (c *cluster) fill(ctx context.Context) error {
	if c.index == 0 || c.lab.holes == nil {
		return nil
	}
	pods := c.fillers()
	if len(pods) == 0 {
		return nil
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: FillNamespace}}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the namespace of the fillers: %w", err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	_, err := c.client.CoreV1().ServiceAccounts(FillNamespace).Create(ctx, account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the account of the fillers: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, pod := range pods {
		group.Go(func() error {
			if _, err := c.client.CoreV1().Pods(FillNamespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("creating filler %s: %w", pod.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// fillers makes the filler pods of the cluster.
func (c *cluster) fillers() []*corev1.Pod {
	var pods []*corev1.Pod
	for i, capacity := range c.nodes {
		free, ok := c.lab.holes(c.index, i+1)
		if !ok {
			continue
		}
		requests := filler(capacity, free)
		if len(requests) == 0 {
			continue
		}
		pods = append(pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: strings.Replace(c.nodeName(i+1), "node", "fill", 1), Namespace: FillNamespace},
			Spec: corev1.PodSpec{
				NodeName: c.nodeName(i + 1),
				Containers: []corev1.Container{{
					Name: "fill", Image: "registry.k8s.io/pause:3.10.1",
					Resources: corev1.ResourceRequirements{Requests: requests, Limits: extended(requests)},
				}},
				TerminationGracePeriodSeconds: new(int64),
				AutomountServiceAccountToken:  new(bool),
			},
		})
	}
	return pods
}

// extended picks the extended resources, which need a limit equal to the request.
func extended(requests corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range requests {
		if strings.Contains(string(name), "/") || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			out[name] = q
		}
	}
	return out
}

// fillersRunning tells as an error which filler does not run yet.
func (c *cluster) fillersRunning(ctx context.Context) error {
	if c.index == 0 || c.lab.holes == nil {
		return nil
	}
	pods, err := c.client.CoreV1().Pods(FillNamespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase!=Running"})
	if err != nil {
		return err
	}
	if len(pods.Items) > 0 {
		return fmt.Errorf("%d fillers are not running, among them %s", len(pods.Items), pods.Items[0].Name)
	}
	return nil
}
