package lab

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The ways to fill the lower nodes; any other value of Options.Fill is the path of a file that lists holes.
const (
	FillEmpty      = "empty"
	FillFragmented = "fragmented"
)

// The parts of Tessera that a lab can run.
const (
	PartExtender    = "extender"
	PartVirtualNode = "virtualnode"
	PartAdmission   = "admission"
	PartRebalance   = "rebalance"
)

// Parts lists all parts in the order in which they are started.
var Parts = []string{PartExtender, PartAdmission, PartVirtualNode, PartRebalance}

// Options says what a lab consists of. The zero value is an upper cluster alone.
type Options struct {
	// Dir is the lab's folder; "" is a temporary one that Stop removes.
	Dir string
	// Lower is the number of lower clusters, named lower-1 to lower-N.
	Lower int
	// Nodes is the number of nodes in each lower cluster; 0 is the sum of the shapes' counts.
	Nodes int
	// UpperNodes is the number of real (KWOK) nodes in the upper cluster, named upper-node-0001 and so on.
	UpperNodes int
	// RealNodes is how many lower clusters, from lower-1 on, have one node that runs pods, in place of those that KWOK plays: see
	// package realnode. Linux and root.
	RealNodes int
	// Networks, when set, gives each cluster a network of its own, and each lower one a real node, Services, DNS and metrics.
	Networks Networks
	// Shapes are the nodes' sizes. Those with a count come first, the others share the rest in turn.
	Shapes []Shape
	// Fill is FillEmpty (also ""), FillFragmented or the path of a YAML or JSON list of holes.
	Fill string
	// Holes, when set, replaces Fill: it says what filler pods leave free on a node (cluster and node count from 1).
	// ok=false leaves the node empty.
	Holes func(cluster, node int) (free corev1.ResourceList, ok bool)
	// Seed makes FillFragmented deterministic.
	Seed int64
	// Parts are the parts of Tessera to run. The scheduler's configuration has the extender entry if PartExtender is in.
	Parts []string
	// Config is merged into a part's YAML, by part name.
	Config map[string]map[string]any
	// StrictBind has the upper scheduler bind Tessera's pods through the extender (bindVerb).
	StrictBind bool
	// BoundByHand leaves out the policy by which nobody creates a pod of Tessera's with a node, so that loads can do without a scheduler.
	BoundByHand bool
	// ShortTimers makes kube-controller-manager notice a dead node after 8 s and evict its pods after 5 s more.
	ShortTimers bool
	// Log takes the progress lines; nil drops them.
	Log io.Writer
}

// Shape is a kind of node.
type Shape struct {
	// Count is how many of a cluster's nodes have this shape; 0 means a share of those that no count claims.
	Count int
	// Cluster restricts the shape to one lower cluster, counted from 1; 0 means all.
	Cluster   int
	Resources corev1.ResourceList
}

// ParseShape reads a shape such as "cpu=16,memory=64Gi,nvidia.com/gpu=8,count=2,cluster=1".
// cpu, memory and pods have defaults (16, 64Gi, 110); an error names the bad token.
func ParseShape(text string) (Shape, error) {
	shape := Shape{Resources: defaultResources()}
	for token := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(token), "=")
		if !found || key == "" || value == "" {
			return Shape{}, fmt.Errorf("reading node shape %q: %q is not KEY=VALUE", text, token)
		}
		switch key {
		case "count", "cluster":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return Shape{}, fmt.Errorf("reading node shape %q: %q needs a whole number of at least 1", text, token)
			}
			if key == "count" {
				shape.Count = n
			} else {
				shape.Cluster = n
			}
		default:
			q, err := resource.ParseQuantity(value)
			if err != nil || q.Sign() < 0 {
				return Shape{}, fmt.Errorf("reading node shape %q: %q needs a quantity such as 16 or 64Gi", text, token)
			}
			if !knownResource(key) {
				return Shape{}, fmt.Errorf("reading node shape %q: %q is not a node resource (%s)", text, token, resourceNames)
			}
			shape.Resources[corev1.ResourceName(key)] = q
		}
	}
	return shape, nil
}

const resourceNames = "cpu, memory, pods, ephemeral-storage, hugepages-SIZE or DOMAIN/NAME"

// knownResource tells whether name is one of those.
func knownResource(name string) bool {
	switch corev1.ResourceName(name) {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.Contains(name, "/") || strings.HasPrefix(name, corev1.ResourceHugePagesPrefix)
}

func defaultResources() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("16"),
		corev1.ResourceMemory:           resource.MustParse("64Gi"),
		corev1.ResourcePods:             resource.MustParse("110"),
		corev1.ResourceEphemeralStorage: resource.MustParse("500Gi"),
	}
}

// validate fills in defaults and refuses what cannot be built.
func (o *Options) validate() error {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Fill == "" {
		o.Fill = FillEmpty
	}
	if o.Lower < 0 || o.Lower > 99 {
		return fmt.Errorf("checking lab options: %d lower clusters asked for, 0 to 99 are possible", o.Lower)
	}
	if o.Nodes < 0 || o.UpperNodes < 0 {
		return fmt.Errorf("checking lab options: the number of nodes is negative")
	}
	if err := o.validateRealNodes(); err != nil {
		return err
	}
	for _, p := range o.Parts {
		if !slices.Contains(Parts, p) {
			return fmt.Errorf("checking lab options: %q is not a part (parts: %s)", p, strings.Join(Parts, ", "))
		}
	}
	for p := range o.Config {
		if !slices.Contains(Parts, p) {
			return fmt.Errorf("checking lab options: configuration given for %q, which is not a part", p)
		}
	}
	for k := 1; k <= o.Lower; k++ {
		if _, err := o.nodeShapes(k); err != nil {
			return err
		}
	}
	return nil
}

// nodeShapes lists the resources of lower cluster k's nodes, one element a node.
func (o *Options) nodeShapes(k int) ([]corev1.ResourceList, error) {
	var out, rest []corev1.ResourceList
	for _, s := range o.Shapes {
		switch {
		case s.Cluster != 0 && s.Cluster != k:
		case s.Count == 0:
			rest = append(rest, s.Resources)
		default:
			out = append(out, slices.Repeat([]corev1.ResourceList{s.Resources}, s.Count)...)
		}
	}
	if o.Nodes == 0 && len(rest) == 0 {
		return out, nil
	}
	if len(out) > o.Nodes {
		return nil, fmt.Errorf("checking node shapes: their counts add up to %d for lower-%d, which has %d nodes", len(out), k, o.Nodes)
	}
	if len(rest) == 0 && len(out) < o.Nodes && len(out) > 0 {
		return nil, fmt.Errorf("checking node shapes: their counts add up to %d for lower-%d, which has %d nodes; give one shape without count",
			len(out), k, o.Nodes)
	}
	if len(rest) == 0 {
		rest = []corev1.ResourceList{defaultResources()}
	}
	for i := 0; len(out) < o.Nodes; i++ {
		out = append(out, rest[i%len(rest)])
	}
	return out, nil
}
