package oracle

import (
	"cmp"
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources is a vector of amounts, in the units that kube-scheduler compares: millicores, bytes, pods, and whole
// units of everything else (extended resources, hugepages in bytes).
type Resources struct {
	MilliCPU, Memory, EphemeralStorage, Pods int64
	// Scalars holds every other resource; nil where there is none. Treat it as immutable once shared.
	Scalars map[corev1.ResourceName]int64
}

// FromList reads a resource list. Negative amounts, which no API server accepts, count as they stand. An amount that is too
// large counts as most: kube-scheduler's arithmetic makes nothing, or less, of 1e18 CPUs.
func FromList(list corev1.ResourceList) Resources {
	var r Resources
	for name, quantity := range list {
		switch name {
		case corev1.ResourceCPU:
			r.MilliCPU = bounded(quantity, mostMilli, quantity.MilliValue)
		case corev1.ResourceMemory:
			r.Memory = bounded(quantity, mostWhole, quantity.Value)
		case corev1.ResourceEphemeralStorage:
			r.EphemeralStorage = bounded(quantity, mostWhole, quantity.Value)
		case corev1.ResourcePods:
			r.Pods = bounded(quantity, mostWhole, quantity.Value)
		default:
			if r.Scalars == nil {
				r.Scalars = map[corev1.ResourceName]int64{}
			}
			r.Scalars[name] = bounded(quantity, mostWhole, quantity.Value)
		}
	}
	return r
}

// most is the largest amount that counts: sums of a thousand of them do not overflow, so that what is taken can be given
// back.
const most = int64(1) << 53

var (
	mostMilli = *resource.NewMilliQuantity(most, resource.DecimalSI)
	mostWhole = *resource.NewQuantity(most, resource.DecimalSI)
)

// bounded is the amount of a quantity within the limit, of which most is the amount.
func bounded(quantity, limit resource.Quantity, amount func() int64) int64 {
	if quantity.Cmp(limit) > 0 {
		return most
	}
	limit.Neg()
	if quantity.Cmp(limit) < 0 {
		return -most
	}
	return amount()
}

// List is the inverse of FromList. Amounts of zero are left out, except CPU and memory.
func (r Resources) List() corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(r.MilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(r.Memory, resource.BinarySI),
	}
	if r.EphemeralStorage != 0 {
		list[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(r.EphemeralStorage, resource.BinarySI)
	}
	if r.Pods != 0 {
		list[corev1.ResourcePods] = *resource.NewQuantity(r.Pods, resource.DecimalSI)
	}
	for name, amount := range r.Scalars {
		list[name] = *resource.NewQuantity(amount, resource.DecimalSI)
	}
	return list
}

// Plus returns r + other. Sums stop at the largest number instead of turning negative.
func (r Resources) Plus(other Resources) Resources { return r.combine(other, add) }

// Minus returns r - other.
func (r Resources) Minus(other Resources) Resources {
	return r.combine(other, func(a, b int64) int64 { return add(a, -max(b, -math.MaxInt64)) })
}

// Max returns the larger amount of each resource.
func (r Resources) Max(other Resources) Resources {
	return r.combine(other, func(a, b int64) int64 { return max(a, b) })
}

// Positive returns r with negative amounts as zero.
func (r Resources) Positive() Resources { return r.Max(Resources{Scalars: zeros(r.Scalars)}) }

func (r Resources) combine(other Resources, op func(a, b int64) int64) Resources {
	sum := Resources{
		MilliCPU:         op(r.MilliCPU, other.MilliCPU),
		Memory:           op(r.Memory, other.Memory),
		EphemeralStorage: op(r.EphemeralStorage, other.EphemeralStorage),
		Pods:             op(r.Pods, other.Pods),
		Scalars:          r.Scalars,
	}
	if len(other.Scalars) == 0 {
		return sum
	}
	sum.Scalars = maps.Clone(r.Scalars)
	if sum.Scalars == nil {
		sum.Scalars = make(map[corev1.ResourceName]int64, len(other.Scalars))
	}
	for name, amount := range other.Scalars {
		sum.Scalars[name] = op(sum.Scalars[name], amount)
	}
	return sum
}

func add(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}

func zeros(scalars map[corev1.ResourceName]int64) map[corev1.ResourceName]int64 {
	if scalars == nil {
		return nil
	}
	zero := make(map[corev1.ResourceName]int64, len(scalars))
	for name := range scalars {
		zero[name] = 0
	}
	return zero
}

// Fits reports whether a request fits into r. A resource that is not asked for never refuses, even where r is
// negative; that is how kube-scheduler's NodeResourcesFit sees it.
func (r Resources) Fits(request Resources) bool {
	if over(request.MilliCPU, r.MilliCPU) || over(request.Memory, r.Memory) ||
		over(request.EphemeralStorage, r.EphemeralStorage) || over(request.Pods, r.Pods) {
		return false
	}
	for name, amount := range request.Scalars {
		if over(amount, r.Scalars[name]) {
			return false
		}
	}
	return true
}

func over(request, free int64) bool { return request > 0 && request > free }

// some reports whether any amount is above zero.
func (r Resources) some() bool {
	found := false
	r.Each(func(_ corev1.ResourceName, amount int64) { found = found || amount > 0 })
	return found
}

func (r Resources) equal(other Resources) bool {
	return !r.Minus(other).some() && !other.Minus(r).some()
}

// Short returns by how much r falls short of a request, zero where it does not.
func (r Resources) Short(request Resources) Resources {
	gap := func(request, free int64) int64 {
		if !over(request, free) {
			return 0
		}
		return request - max(free, 0)
	}
	short := Resources{
		MilliCPU:         gap(request.MilliCPU, r.MilliCPU),
		Memory:           gap(request.Memory, r.Memory),
		EphemeralStorage: gap(request.EphemeralStorage, r.EphemeralStorage),
		Pods:             gap(request.Pods, r.Pods),
	}
	for name, amount := range request.Scalars {
		if missing := gap(amount, r.Scalars[name]); missing > 0 {
			if short.Scalars == nil {
				short.Scalars = map[corev1.ResourceName]int64{}
			}
			short.Scalars[name] = missing
		}
	}
	return short
}

// Each calls visit for every resource in a fixed order: CPU, memory, ephemeral storage, pods, then by name.
func (r Resources) Each(visit func(name corev1.ResourceName, amount int64)) {
	visit(corev1.ResourceCPU, r.MilliCPU)
	visit(corev1.ResourceMemory, r.Memory)
	visit(corev1.ResourceEphemeralStorage, r.EphemeralStorage)
	visit(corev1.ResourcePods, r.Pods)
	for _, name := range slices.SortedFunc(maps.Keys(r.Scalars), cmp.Compare[corev1.ResourceName]) {
		visit(name, r.Scalars[name])
	}
}

// Get returns the amount of one resource, in the unit of Resources.
func (r Resources) Get(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourceCPU:
		return r.MilliCPU
	case corev1.ResourceMemory:
		return r.Memory
	case corev1.ResourceEphemeralStorage:
		return r.EphemeralStorage
	case corev1.ResourcePods:
		return r.Pods
	}
	return r.Scalars[name]
}

// set changes the amount of one resource. The map of the others is r's own to write to.
func (r *Resources) set(name corev1.ResourceName, amount int64) {
	switch name {
	case corev1.ResourceCPU:
		r.MilliCPU = amount
	case corev1.ResourceMemory:
		r.Memory = amount
	case corev1.ResourceEphemeralStorage:
		r.EphemeralStorage = amount
	case corev1.ResourcePods:
		r.Pods = amount
	default:
		if r.Scalars == nil {
			r.Scalars = map[corev1.ResourceName]int64{}
		}
		r.Scalars[name] = amount
	}
}

// Quantities is List for people and JSON: strings such as "16" and "64Gi", zero amounts left out.
func (r Resources) Quantities() map[string]string {
	texts := map[string]string{}
	for name, quantity := range r.List() {
		if !quantity.IsZero() {
			texts[string(name)] = quantity.String()
		}
	}
	return texts
}
