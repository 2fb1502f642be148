package snapshot

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// columns hold one amount a row and resource, each resource's amounts beside each other: a question about 10,000 nodes
// reads a few arrays from end to end and allocates nothing.
type columns struct {
	names  []corev1.ResourceName // CPU, memory, ephemeral storage, pods, then the others in order
	amount [][]int64             // [resource][row]
	has    []int                 // nodes that list the resource; of the first four every node counts as one
}

var always = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods}

func newColumns() columns {
	return columns{names: slices.Clone(always), amount: make([][]int64, len(always)), has: make([]int, len(always))}
}

// index is the column of a resource, or -1 where no node has any.
func (c *columns) index(name corev1.ResourceName) int {
	r := slices.Index(c.names, name)
	if r >= len(always) && c.has[r] == 0 {
		return -1
	}
	return r
}

// list counts a node that lists such amounts, or with -1 one less, and reports whether there is a column more.
func (c *columns) list(amounts Resources, sign int) (grown bool) {
	for name := range amounts.Scalars {
		r := slices.Index(c.names, name)
		if r < 0 {
			r = len(always)
			for r < len(c.names) && c.names[r] < name {
				r++
			}
			c.names = slices.Insert(c.names, r, name)
			c.amount = slices.Insert(c.amount, r, make([]int64, len(c.amount[0])))
			c.has = slices.Insert(c.has, r, 0)
			grown = true
		}
		c.has[r] += sign
	}
	return grown
}

// grow makes room for one row more.
func (c *columns) grow() {
	for r := range c.amount {
		c.amount[r] = append(c.amount[r], 0)
	}
}

// set writes a row.
func (c *columns) set(row int, amounts Resources) {
	for r, name := range c.names {
		c.amount[r][row] = amounts.Get(name)
	}
}

// take subtracts an amount of every resource in one row; sign -1 gives it back. What no node has is not there to take.
func (c *columns) take(row int, amounts Resources, sign int64) {
	for r, name := range c.names {
		if amount := max(amounts.Get(name), -math.MaxInt64); amount != 0 {
			c.amount[r][row] = add(c.amount[r][row], -sign*amount)
		}
	}
}

// row is one row's amounts.
func (c *columns) row(row int) Resources {
	var amounts Resources
	if others := len(c.names) - len(always); others > 0 {
		amounts.Scalars = make(map[corev1.ResourceName]int64, others)
	}
	for r, name := range c.names {
		if r < len(always) || c.has[r] > 0 {
			amounts.set(name, c.amount[r][row])
		}
	}
	return amounts
}

// shares is what there is in a row, each resource as a share of its unit, summed. A unit of zero does not count.
func (c *columns) shares(row int, units []float64) float64 {
	sum := 0.0
	for r, unit := range units {
		if unit > 0 {
			sum += float64(c.amount[r][row]) / unit
		}
	}
	return sum
}

// keeps reports whether what is charged to a row already is there: nothing of it is short.
func (c *columns) keeps(row int, amounts Resources) bool {
	for r, name := range c.names {
		if amounts.Get(name) > 0 && c.amount[r][row] < 0 {
			return false
		}
	}
	for name, amount := range amounts.Scalars {
		if amount > 0 && !slices.Contains(c.names, name) {
			return false
		}
	}
	return true
}

// fits reports whether there is room for amounts in a row.
func (c *columns) fits(row int, amounts Resources) bool {
	for r, amount := range [...]int64{amounts.MilliCPU, amounts.Memory, amounts.EphemeralStorage, amounts.Pods} {
		if over(amount, c.amount[r][row]) {
			return false
		}
	}
	for name, amount := range amounts.Scalars {
		if r := c.index(name); amount > 0 && (r < 0 || amount > c.amount[r][row]) {
			return false
		}
	}
	return true
}
