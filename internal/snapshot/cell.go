package snapshot

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// cell is one lower cluster: its nodes, a row each that a node keeps as long as it is there, what is held on them, and what is kept
// up to date beside them so that a question does not have to look at every row. A change costs what has changed.
type cell struct {
	name string

	rows   map[string]int // of nodes, by name
	nodes  []*Node        // by row, nil where there is none
	vacant []int
	byName []int // rows in order of names; nil where that has to be found anew

	class    []*class // by row
	classes  []*class
	byKey    map[string]*class
	keys     []string  // labels that classes differ in
	tooMany  []string  // labels that would make too many
	tight    []float64 // by row: how much is left there
	full     []bool    // by row: less than nothing is, of CPU or memory
	unused   []float64 // by row: the part of it that is, see measure
	unsaid   []unsaid  // by row: of those that are charged to it
	within   []float64 // by column: the unit of leftover
	scaled   uint64    // version of the pool's scale
	arranged bool      // the rows are in the orders of their classes

	// room is what is free, less the holds, less what waiting pods will take.
	room    columns
	largest Resources // of each resource, the most that any node can give

	own     map[types.UID]*LowerPod // the pods of our upper cluster by the UID of the upper pod, finished ones too
	pods    int                     // unfinished ones
	waiting []*LowerPod             // the unfinished pods without a node
	names   map[uint64]struct{}     // that are taken, and those of ours with their virtual nodes
	Surroundings

	// holds are those in this cluster, with and without a node; heldOn are those of them with one, by its name.
	holds  map[types.UID]*Hold
	heldOn map[string][]*Hold
	// guests are the waiting pods of the cluster, where its scheduler is about to put them.
	guests []guest
	// apart counts the holds and guests that keep other pods away.
	apart int
	// drawing counts those that draw others.
	drawing int
	// lifted is the hold that the question at hand does not count.
	lifted *Hold
	// refusals are what kubelets have said lately, each until when it counts.
	refusals map[turned]time.Time

	terms      termIndex // of pods that keep others away
	draws      termIndex // of pods that draw others
	topologies map[string]*topology
	counters   map[string]*counter
	changed    []int32 // rows, since the beginning but for the first forgotten ones
	forgotten  uint64
	tick       uint64
	parts      map[string]*participants
	spansOf    map[string]*spans

	gained journal[int32] // rows that have room which they had not
	eased  journal[*term] // terms of pods that have gone
	shaken uint64         // counts changes that may let in any pod

	view *Snapshot // of what is there now; nil until somebody asks
}

// Surroundings are what is known of a lower cluster beside its nodes and pods.
type Surroundings struct {
	// Namespaces has the labels of the namespaces that exist; nil where nobody looks at them.
	Namespaces Namespaces
	// Version is that of the cluster's scheduler.
	Version Version
	// Devices are the extended resources that a device class of the cluster can give (DRAExtendedResource).
	Devices map[corev1.ResourceName]bool
}

func newCell(name string) *cell {
	return &cell{
		name: name, rows: map[string]int{}, byKey: map[string]*class{}, room: newColumns(), own: map[types.UID]*LowerPod{},
		names: map[uint64]struct{}{}, holds: map[types.UID]*Hold{}, heldOn: map[string][]*Hold{}, refusals: map[turned]time.Time{},
		terms: newTermIndex(), draws: newTermIndex(), topologies: map[string]*topology{},
		counters: map[string]*counter{}, parts: map[string]*participants{},
	}
}

// inOrder are the rows that have a node, in order of the names.
func (c *cell) inOrder() []int {
	if c.byName == nil {
		c.byName = make([]int, 0, len(c.rows))
		for row, node := range c.nodes {
			if node != nil {
				c.byName = append(c.byName, row)
			}
		}
		slices.SortFunc(c.byName, func(a, b int) int { return compareNodes(c.nodes[a], c.nodes[b]) })
	}
	return c.byName
}

// put lets a node have its row, or another state of it. It reports whether the most that any node can give may be another.
func (c *cell) put(node *Node) (other bool) {
	row, there := c.rows[node.Name()]
	var before *Node
	switch {
	case there:
		before = c.nodes[row]
		c.pull(row)
	case len(c.vacant) > 0:
		row = c.vacant[len(c.vacant)-1]
		c.vacant = c.vacant[:len(c.vacant)-1]
	default:
		row = len(c.nodes)
		c.nodes, c.class, c.tight = append(c.nodes, nil), append(c.class, nil), append(c.tight, 0)
		c.full, c.unused, c.unsaid = append(c.full, false), append(c.unused, 0), append(c.unsaid, unsaid{})
		c.room.grow()
	}
	grown := c.room.list(node.free, 1)
	if before != nil {
		c.room.list(before.free, -1)
	}
	c.nodes[row], c.rows[node.Name()] = node, row
	if before == nil {
		c.byName = nil
		c.count(node.Name(), 1)
	}
	if before == nil || before.Object != node.Object || before.kind != node.kind {
		if before != nil {
			c.dismiss(row)
		}
		c.enrol(row)
		c.parts, c.spansOf = map[string]*participants{}, nil
		for key, t := range c.topologies {
			t.put(row, node, key)
		}
	}
	c.reindex(row, before, node)
	c.ease(before, node)
	c.note(row)
	c.gained.add(int32(row))
	if grown {
		c.refill()
	} else {
		c.fill(row)
		c.push(row)
	}
	return before == nil || !before.Allocatable.equal(node.Allocatable)
}

// drop takes a node away.
func (c *cell) drop(name string) {
	row, there := c.rows[name]
	if !there {
		return
	}
	c.pull(row)
	node := c.nodes[row]
	c.count(name, -1)
	c.dismiss(row)
	c.reindex(row, node, nil)
	c.ease(node, nil)
	for _, t := range c.topologies {
		t.drop(row)
	}
	c.room.list(node.free, -1)
	c.note(row)
	c.gained.add(int32(row)) // It may have been in the way of spread, or counted in a reserve.
	delete(c.rows, name)
	c.nodes[row], c.byName = nil, nil
	c.vacant = append(c.vacant, row)
	c.parts, c.spansOf = map[string]*participants{}, nil
}

// count counts the holds on a node that comes, or with -1 goes, among those that keep others away.
func (c *cell) count(node string, sign int) {
	for _, hold := range c.heldOn[node] {
		c.among(hold.pod, sign)
	}
}

// ease remembers that pods which keep others away have gone from a node, or that the node is in other domains than before.
func (c *cell) ease(before, after *Node) {
	if before == nil {
		return
	}
	for _, t := range before.apart {
		if after == nil || after.Object != before.Object || !slices.Contains(after.apart, t) {
			c.eased.add(t)
		}
	}
}

// easeAll remembers that a pod on its way which may keep others away, or has ports, is not where it was.
func (c *cell) easeAll(pod *Pod) {
	if len(pod.apart) > 0 || len(pod.ports) > 0 {
		c.shaken++
	}
}

// note remembers that a row has changed, for the counters.
func (c *cell) note(row int) {
	c.changed = append(c.changed, int32(row))
	if most := 4*len(c.nodes) + 1024; len(c.changed) > most {
		half := len(c.changed) / 2
		c.changed = slices.Clone(c.changed[half:])
		c.forgotten += uint64(half)
	}
}

// fill writes the room of a row that is in no order: what is free, less what is held there. Waiting pods have no seat meanwhile.
func (c *cell) fill(row int) {
	node := c.nodes[row]
	c.room.set(row, node.free)
	c.unsaid[row] = node.unsaid
	for _, hold := range c.heldOn[node.Name()] {
		c.room.take(row, hold.Requests, 1)
		c.unsaid[row] = c.unsaid[row].plus(hold.pod.unsaid)
	}
}

// refill writes all rows anew, as there is a column more.
func (c *cell) refill() {
	for row, node := range c.nodes {
		if node != nil {
			c.fill(row)
		}
	}
	c.arranged = false
}

// pull takes a row out of its order before its room changes, push puts it back.
func (c *cell) pull(row int) {
	if !c.arranged {
		return
	}
	of := c.class[row]
	of.remove(c, int32(row))
	for r := range of.free {
		of.free[r] = of.free[r].minus(c.room.amount[r][row])
	}
}

func (c *cell) push(row int) {
	if !c.arranged {
		return
	}
	c.measure(row)
	of := c.class[row]
	if of.free == nil {
		of.free = make([]wide, len(c.room.names))
	}
	of.insert(c, int32(row))
	for r := range of.free {
		of.free[r] = of.free[r].plus(c.room.amount[r][row])
	}
}

// arrange puts all rows in order, if they are not: the unit of leftover is another, or there are other columns or classes.
func (c *cell) arrange(scale *scale) {
	if c.arranged && c.scaled == scale.version {
		return
	}
	if len(c.classes) > 4*mostClasses && len(c.keys) > 0 { // They were fewer when the labels were asked about.
		c.tooMany, c.keys = append(c.tooMany, c.keys...), nil
		c.classify()
	}
	c.within, c.scaled = units(c.room.names, scale.most), scale.version
	members := make([][]int32, len(c.classes))
	for _, of := range c.classes {
		of.free = make([]wide, len(c.room.names))
	}
	for row, node := range c.nodes {
		if node == nil {
			continue
		}
		c.measure(row)
		of := c.class[row]
		members[of.at] = append(members[of.at], int32(row))
		for r := range of.free {
			of.free[r] = of.free[r].plus(c.room.amount[r][row])
		}
	}
	for i, of := range c.classes {
		of.arrange(c, members[i])
	}
	c.arranged = true
}

// units are the amounts of each column that count as 1 in leftover, zero for those that do not count.
func units(names []corev1.ResourceName, most Resources) []float64 {
	within := make([]float64, len(names))
	for r, name := range names {
		if name != corev1.ResourcePods && name != corev1.ResourceEphemeralStorage {
			within[r] = max(0, float64(most.Get(name)))
		}
	}
	return within
}

// charge takes a hold's room on its node, or with -1 gives it back. A hold without a node (its node went away and no
// other takes it) charges nothing until it is placed again.
func (c *cell) charge(hold *Hold, sign int64) {
	if hold.Node == "" {
		return
	}
	if sign > 0 {
		c.heldOn[hold.Node] = append(c.heldOn[hold.Node], hold)
	} else if left := slices.DeleteFunc(c.heldOn[hold.Node], func(h *Hold) bool { return h == hold }); len(left) > 0 {
		c.heldOn[hold.Node] = left
	} else {
		delete(c.heldOn, hold.Node)
	}
	row, ok := c.rows[hold.Node]
	if !ok {
		return
	}
	c.take(row, hold.Requests, hold.pod.unsaid, sign)
	c.among(hold.pod, int(sign))
}

// take takes room in a row, or with -1 gives it back.
func (c *cell) take(row int, amounts Resources, unsaid unsaid, sign int64) {
	c.pull(row)
	c.room.take(row, amounts, sign)
	c.unsaid[row] = c.unsaid[row].plus(unsaid.times(sign))
	c.push(row)
}

// eachTenant visits the pods on their way to a node.
func (c *cell) eachTenant(visit func(row int, t *tenant)) {
	for _, hold := range c.holds {
		if row, ok := c.rows[hold.Node]; ok && hold != c.lifted {
			visit(row, &hold.pod.tenant)
		}
	}
	for i := range c.guests {
		visit(c.guests[i].row, &c.guests[i].pod.tenant)
	}
}

func (c *cell) place(hold *Hold, node string) {
	c.charge(hold, -1)
	c.gain(hold.Node)
	c.easeAll(hold.pod)
	hold.Node = node
	c.charge(hold, 1)
}

// gain remembers that there is room on a node which there was not.
func (c *cell) gain(node string) {
	if row, there := c.rows[node]; there {
		c.gained.add(int32(row))
	}
}

// measureLargest finds the most that any node can give of each resource, and reports whether that is something else than before.
func (c *cell) measureLargest() bool {
	var largest Resources
	for _, node := range c.nodes {
		if node != nil {
			largest = largest.Max(node.Allocatable)
		}
	}
	if largest.equal(c.largest) {
		return false
	}
	c.largest = largest
	return true
}

// gives reports whether a device class may have to give something to the pod: the columns cannot say whether it can.
func (c *cell) gives(pod *Pod) bool {
	for name, amount := range pod.Requests.Scalars {
		if amount > 0 && c.Devices[name] {
			return true
		}
	}
	return false
}

// snapshot is the cluster as it is now. It is made when somebody asks and kept until something changes.
func (c *cell) snapshot() *Snapshot {
	if c.view == nil {
		content := Content{Cluster: c.name, Own: maps.Clone(c.own), Pods: c.pods, Waiting: c.waiting, Surroundings: c.Surroundings}
		for _, row := range c.inOrder() {
			content.Nodes = append(content.Nodes, c.nodes[row])
		}
		c.view = New(content)
	}
	return c.view
}
