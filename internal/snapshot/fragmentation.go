package snapshot

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// Class is a shape of pods and how many pods have it.
type Class struct {
	Requests Resources
	Count    int
}

// Fragmentation says how much of what is free on some nodes pods of given classes cannot use, because it lies in holes
// that are too small.
type Fragmentation struct {
	// Stranded is the mean of the classes' Stranded, weighted by Count; 0 to 1.
	Stranded float64
	// Gap is the mean of the classes' Gap, weighted by Count and rounded; in pods.
	Gap int64
	// LargestHole is LargestHole of the nodes.
	LargestHole Resources
	Classes     []ClassFragmentation
}

// ClassFragmentation is Fragmentation as pods of one class see it.
type ClassFragmentation struct {
	Class
	Stranded float64
	Gap      int64
}

// Fragment judges what is free on nodes, one vector a node and none negative, by the classes in the order given. For a
// class m that asks for req, with free_r summed over the nodes n in the aggregate:
//
//	k_n = min_r floor(free_r(n) / req_r)                               pods that node n takes
//	S_m = 1 - sum_n k_n * req_r / sum_n free_r(n)                      stranded ratio, r the dominant resource
//	G_m = floor(min_r sum_n free_r(n) / req_r) - sum_n k_n             virtual-node gap
//
// r is dominant where the class asks for the largest part of all that is free, so S_m is the part of the pods promised
// by the aggregate that no node takes. S = sum p_m S_m with p_m the part of all pods that class m has. The weighting is
// that of the fragmentation gradient (Weng et al., ATC'23), the dominant resource that of Ghodsi et al. (NSDI'11); the
// gap counts what a virtual node with the free sum of its nodes promises and cannot keep.
func Fragment(free []Resources, classes []Class) Fragmentation {
	f := Fragmentation{LargestHole: LargestHole(free)}
	var total Resources
	for _, node := range free {
		total = total.Plus(node)
	}
	pods, gap := 0, 0.0
	for _, class := range classes {
		c := ClassFragmentation{Class: class}
		c.Stranded, c.Gap = class.fragment(free, total)
		f.Classes = append(f.Classes, c)
		f.Stranded += float64(class.Count) * c.Stranded
		gap += float64(class.Count) * float64(c.Gap)
		pods += class.Count
	}
	if pods > 0 {
		f.Stranded /= float64(pods)
		f.Gap = int64(math.Round(gap / float64(pods)))
	}
	return f
}

func (c Class) fragment(free []Resources, total Resources) (stranded float64, gap int64) {
	dominant := 0.0
	c.Requests.Each(func(name corev1.ResourceName, amount int64) {
		if amount > 0 {
			dominant = max(dominant, float64(amount)/float64(total.Get(name)))
		}
	})
	if dominant == 0 || math.IsInf(dominant, 1) {
		return 0, 0 // The class asks for nothing, or nothing is free of what it asks for: so nothing is stranded.
	}
	kept := int64(0)
	for _, node := range free {
		kept += times(node, c.Requests)
	}
	return max(0, 1-float64(kept)*dominant), times(total, c.Requests) - kept
}

// times counts how often a request, which asks for something, fits into what is free.
func times(free, request Resources) int64 {
	count := int64(math.MaxInt64)
	request.Each(func(name corev1.ResourceName, amount int64) {
		if amount > 0 {
			count = min(count, free.Get(name)/amount)
		}
	})
	return count
}

// LargestHole is the vector with the largest dominant share: the resource of which it has the largest part of all that
// is free decides (Ghodsi et al., NSDI'11). The number of pods is no resource here.
func LargestHole(free []Resources) Resources {
	var hole, total Resources
	for _, node := range free {
		total = total.Plus(node)
	}
	largest := -1.0
	for _, node := range free {
		dominant := 0.0
		node.Each(func(name corev1.ResourceName, amount int64) {
			if name != corev1.ResourcePods {
				dominant = max(dominant, share(amount, total.Get(name)))
			}
		})
		if dominant > largest {
			hole, largest = node, dominant
		}
	}
	return hole
}

// Holes returns the room on each usable node of a cluster, in order of their names: what is free, less what is held and
// what waiting pods will take.
func (p *Pool) Holes(name string) []Resources {
	c := p.cells[name]
	if c == nil {
		return nil
	}
	var holes []Resources
	for _, row := range c.inOrder() {
		if c.nodes[row].Usable() {
			holes = append(holes, c.room.row(row).Positive())
		}
	}
	return holes
}
