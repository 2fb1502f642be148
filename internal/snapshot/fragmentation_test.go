package snapshot

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// cpus are nodes with that many whole CPUs free, room for 110 pods and no end of memory.
func cpus(free ...int64) []Resources {
	nodes := make([]Resources, len(free))
	for i, n := range free {
		nodes[i] = Resources{MilliCPU: n * 1000, Memory: 1 << 40, Pods: 110}
	}
	return nodes
}

func newClass(cpu int64, count int) Class {
	return Class{Requests: Resources{MilliCPU: cpu * 1000, Pods: 1}, Count: count}
}

func gpus(free int64) Resources {
	return Resources{MilliCPU: 8000, Pods: 110, Scalars: map[corev1.ResourceName]int64{"gpu": free}}
}

func TestFragment(t *testing.T) {
	t.Parallel()
	small := cpus(slices.Repeat([]int64{2}, 10)...) // The clusters A, B and C of the design: 20 CPUs in pieces of 2.
	everything := slices.Concat(small, small, small, cpus(8))
	gpuClass := Class{Requests: Resources{MilliCPU: 4000, Pods: 1, Scalars: map[corev1.ResourceName]int64{"gpu": 2}}, Count: 1}
	cases := map[string]struct {
		free     []Resources
		classes  []Class
		stranded float64
		gap      int64
	}{
		"20 CPUs in pieces of 2 are stranded for 8":   {small, []Class{newClass(8, 1)}, 1, 2},
		"8 CPUs on one node are not":                  {cpus(8), []Class{newClass(8, 1)}, 0, 0},
		"the whole of the design's example":           {everything, []Class{newClass(8, 1)}, 1 - 8.0/68, 7},
		"small pods see no fragmentation":             {everything, []Class{newClass(2, 1)}, 0, 0},
		"the classes' mean is weighted by count":      {small, []Class{newClass(8, 1), newClass(2, 3)}, 0.25, 1},
		"what a node keeps after whole pods counts":   {cpus(5, 5), []Class{newClass(4, 1)}, 1 - 8.0/10, 0},
		"the sum is too small for one: all stranded":  {cpus(2, 2), []Class{newClass(8, 1)}, 1, 0},
		"the dominant resource decides":               {[]Resources{gpus(1), gpus(1), gpus(2)}, []Class{gpuClass}, 0.5, 1},
		"none of what is asked for: nothing stranded": {cpus(8, 8), []Class{gpuClass}, 0, 0},
		"no room for pods is no room":                 {[]Resources{{MilliCPU: 8000}, {MilliCPU: 1000, Pods: 2}}, []Class{newClass(2, 1)}, 1, 2},
		"no classes":                                  {small, nil, 0, 0},
		"no nodes":                                    {nil, []Class{newClass(8, 1)}, 0, 0},
		"a class that asks for nothing":               {small, []Class{{Count: 1}}, 0, 0},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Fragment(test.free, test.classes)
			if math.Abs(got.Stranded-test.stranded) > 1e-9 || got.Gap != test.gap || len(got.Classes) != len(test.classes) {
				t.Errorf("stranded %v, gap %d, %d classes; want %v and %d", got.Stranded, got.Gap, len(got.Classes), test.stranded, test.gap)
			}
		})
	}
}

func TestLargestHole(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ free, want []Resources }{
		"of one resource":                    {cpus(2, 8, 4), cpus(8)},
		"a rare resource weighs more":        {[]Resources{{MilliCPU: 60_000}, {MilliCPU: 40_000, Memory: 9}, {Memory: 1}}, []Resources{{MilliCPU: 40_000, Memory: 9}}},
		"the number of pods does not matter": {[]Resources{{MilliCPU: 1, Pods: 1}, {Pods: 1000}}, []Resources{{MilliCPU: 1, Pods: 1}}},
		"no nodes":                           {nil, []Resources{{}}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want[0], LargestHole(test.free)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
