package snapshot

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot/oracle"
)

// FuzzPool turns bytes into a script as those under testdata and plays it: nodes and pods come, change and vanish with all
// that is on them, watches lag behind each other, amounts are negative or absurd, the clock jumps by hours, the process
// starts anew. After every command all that must always be true is checked, and every answer is the oracle's. What fails is
// printed as a script.
func FuzzPool(f *testing.F) {
	for seed := range uint64(60) {
		random, data := rand.New(rand.NewPCG(seed, 1)), make([]byte, longestPlay)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := newPlay(t, data[:min(len(data), longestPlay)], 0)
		for !p.tape.over() {
			p.step()
			if fault := p.fault(); fault != "" {
				t.Fatalf("%s\n\nafter\n%s", fault, strings.Join(p.script, "\n"))
			}
		}
	})
}

// longestPlay is what whoever reads a failure can still understand.
const longestPlay = 150

// tape reads choices from bytes; past the end every choice is the first one.
type tape struct {
	data []byte
	at   int
}

func (t *tape) over() bool { return t.at >= len(t.data) }

func (t *tape) choice(n int) int {
	if t.over() {
		return 0
	}
	t.at++
	return int(t.data[t.at-1]) % n
}

func (t *tape) yes(oneIn int) bool { return t.choice(oneIn) == oneIn-1 }

func (t *tape) of(texts ...string) string { return texts[t.choice(len(texts))] }

// play is a script in the making: what the API servers really hold, and what the pool under test has been told of it.
type play struct {
	*world
	oracle *oracle.World
	t      *testing.T
	tape   *tape
	script []string
	uppers [4]*upperTruth
	born   int      // upper pods so far
	kept   []string // UIDs of reservations
	fits   []string // "cluster node" of the last filter, for the pod fitsFor
	asked  *upperTruth
	wide   int // nodes a cluster may have, 0 for three; of many kinds then
}

// upperTruth is an upper pod as its API server knows it.
type upperTruth struct {
	uid, args string
	state     string // "", chosen, bound, finished, gone
	cluster   string // of chosen and bound
	refused   time.Time
	news      []told // what the pool has not heard of yet, the oldest first
	heard     told   // what it heard last
	below     bool   // the lower pod exists
}

// told is an upper pod at one moment.
type told struct {
	state, cluster string
	refused        time.Time
}

func newPlay(t *testing.T, data []byte, wide int) *play {
	p := &play{t: t, tape: &tape{data: data}, wide: wide}
	p.world = &world{pool: NewPool(), now: time.Unix(1_000_000, 0), nodes: map[string]*corev1.Node{}, pods: map[string]*LowerPod{}, namespaces: Namespaces{}}
	p.oracle = oracle.NewWorld(p.now)
	for i := range p.uppers {
		p.uppers[i] = p.newUpper()
	}
	for _, line := range []string{"node a/n1 cpu=4", "node a/n2 cpu=8 gpu=2 zone=x", "node b/n1 cpu=8 memory=4 zone=y", "publish a", "publish b"} {
		p.do(line)
	}
	return p
}

func (p *play) newUpper() *upperTruth {
	p.born++
	u := &upperTruth{uid: fmt.Sprint("p", p.born)}
	u.args = p.requests() + p.tape.of("", " owner=set", " owner=set", " owner=batch")
	return u
}

// requests are what a pod asks for.
func (p *play) requests() string {
	args := "cpu=" + p.tape.of("1", "2", "4", "500m", "0", "8", "9000000000000", "1e18", "9223372036854775807")
	if p.tape.yes(4) {
		args += " memory=" + p.tape.of("1", "4", "9223372036854775807", "1e30")
	}
	if p.tape.yes(4) {
		args += " gpu=" + p.tape.of("1", "2", "9223372036854775807", "1e30")
	}
	if p.tape.yes(3) {
		args += " app=" + p.tape.of("web", "db")
		args += p.tape.of("", " port=80", " apart=host", " near=zone", " spread=zone", " apart=zone")
	}
	if p.wide > 0 {
		args += p.tape.of("", "", " disk=ssd", " disk=hdd", " serial=n7", " disk=none") + p.tape.of("", "", " tolerates=x", " tolerates=y")
	}
	return args
}

// do runs a command of a script.
func (p *play) do(line string) string {
	p.t.Helper()
	p.script = append(p.script, line, "----", "")
	fields := strings.Fields(line)
	d := &datadriven.TestData{Pos: "fuzz", Cmd: fields[0]}
	for _, field := range fields[1:] {
		key, value, valued := strings.Cut(field, "=")
		arg := datadriven.CmdArg{Key: key}
		if valued {
			arg.Vals = []string{value}
		}
		d.CmdArgs = append(d.CmdArgs, arg)
	}
	out := p.run(p.t, d)
	if want := p.oracle.Run(p.t, d); out != want {
		p.t.Fatalf("after\n%s\nthe answer is\n%s\nthe oracle says\n%s", strings.Join(p.script, "\n"), out, want)
	}
	return out
}

func (p *play) cluster() string { return p.tape.of("a", "b") }

func (p *play) node() string {
	if p.wide > 0 {
		return fmt.Sprint("n", (p.tape.choice(256)<<8+p.tape.choice(256))%p.wide)
	}
	return p.tape.of("n1", "n2", "n3")
}

func (p *play) upperPod() *upperTruth { return p.uppers[p.tape.choice(len(p.uppers))] }

// step plays one command, or a few that belong together.
func (p *play) step() {
	p.asked = nil
	steps := []func(){
		p.changeNode, p.changeNode, p.removeNode, p.stranger, p.leave, p.show, p.show, p.show,
		p.ask, p.ask, p.ask, p.nominate, p.bind, p.bind, p.hear, p.hear, p.hear, p.below, p.below, p.below, p.end,
		p.passTime, p.reserve, p.withdraw, p.forgetCluster, p.restart, p.keep, p.strictBind, p.refuse, p.count, p.catchUp, p.look,
	}
	const slowStep = 31 // look asks about each node by itself.
	next := p.tape.choice(len(steps))
	if p.wide > 8 && next == slowStep && !p.tape.yes(16) {
		return
	}
	steps[next]()
}

func (p *play) changeNode() {
	line := "node " + p.cluster() + "/" + p.node() + " cpu=" + p.tape.of("4", "8", "2", "16", "0", "-4", "9000000000000", "1e18", "9223372036854775807", "-1e30")
	if p.tape.yes(3) {
		line += " memory=" + p.tape.of("4", "-4", "9223372036854775807", "1e30")
	}
	if p.tape.yes(3) {
		line += " gpu=" + p.tape.of("2", "-1", "9223372036854775807", "1e30")
	}
	line += p.tape.of("", "", "", " zone=x", " zone=y", " cordoned", " notready", " leaving")
	if p.wide > 0 {
		line += p.tape.of("", " disk=ssd", " disk=ssd", " disk=hdd") + p.tape.of("", "", "", " taint=x", " taint=y")
		if p.tape.yes(2) {
			_, name, _ := strings.Cut(strings.Fields(line)[1], "/")
			line += " serial=" + name
		}
	}
	p.do(line)
}

func (p *play) removeNode() { p.do("remove " + p.cluster() + "/" + p.node()) }

func (p *play) stranger() {
	cluster := p.cluster()
	line := "pod " + cluster + "/" + p.tape.of("s1", "s2", "s3") + " " + p.requests()
	if p.tape.yes(2) {
		line += " node=" + p.node()
	} else {
		line += p.tape.of("", "", " hint="+p.node(), " unschedulable", " gated", " priority=5", " priority=-5")
	}
	if u := p.upperPod(); u.state == "bound" && u.cluster != cluster { // Somebody writes our marks on a pod of his own.
		line += " own=" + u.uid
	}
	p.do(line + p.tape.of("", "", "", " finished", " ending"))
}

func (p *play) leave() { p.do("remove " + p.cluster() + "/" + p.tape.of("s1", "s2", "s3")) }

// show publishes a cluster. After its first snapshot the extender observes every pod again: one that left and came back has
// lost its holds.
func (p *play) show() {
	cluster := p.cluster()
	first := p.pool.Snapshot(cluster) == nil
	p.do("publish " + cluster)
	for _, hold := range p.pool.Holds() {
		if hold.Cluster == cluster && hold.Node != "" && p.pool.Snapshot(cluster).Node(hold.Node) == nil {
			p.t.Fatalf("after\n%s\nthe %s hold of %s is on %s, which is not there", strings.Join(p.script, "\n"), hold.State, hold.UID, hold.Node)
		}
	}
	for _, u := range p.uppers {
		if first && u.heard.state != "gone" {
			p.deliver(u, u.heard)
		}
	}
}

// ask is the scheduler's question about a pod that it has not bound.
func (p *play) ask() {
	u := p.upperPod()
	if u.state != "" && u.state != "chosen" {
		return
	}
	p.asked, p.fits = u, nil
	for line := range strings.Lines(p.do("filter " + u.uid + " " + u.args)) {
		if cluster, node, fits := strings.Cut(strings.TrimSpace(line), ": fits on "); fits {
			p.fits = append(p.fits, cluster+" "+node)
		}
	}
}

func (p *play) tell(u *upperTruth) {
	u.news = append(u.news, told{state: u.state, cluster: u.cluster, refused: u.refused})
}

// target is where the scheduler takes a pod: mostly where the room is held, else anywhere.
func (p *play) target(u *upperTruth) string {
	if hold := p.pool.Hold(types.UID(u.uid)); hold != nil && !p.tape.yes(4) {
		return hold.Cluster
	}
	return p.cluster()
}

func (p *play) nominate() {
	if u := p.upperPod(); u.state == "" {
		u.state, u.cluster = "chosen", p.target(u)
		p.tell(u)
	} else if u.state == "chosen" {
		u.state, u.cluster = "", ""
		p.tell(u)
	}
}

func (p *play) bind() {
	if u := p.upperPod(); u.state == "" || u.state == "chosen" {
		u.state, u.cluster = "bound", p.target(u)
		p.tell(u)
	}
}

func (p *play) refuse() {
	if u := p.upperPod(); u.state == "" || u.state == "chosen" {
		u.state, u.cluster, u.refused = "", "", p.now.Add(time.Duration(p.tape.choice(3)-1)*time.Second)
		p.tell(u)
	}
}

func (p *play) end() {
	switch u := p.upperPod(); {
	case u.state == "gone":
		for i := range p.uppers {
			if p.uppers[i] == u && len(u.news) == 0 && !u.below {
				p.uppers[i] = p.newUpper()
			}
		}
	case u.state == "bound" && p.tape.yes(2):
		u.state = "finished"
		p.tell(u)
	default:
		u.state = "gone"
		p.tell(u)
	}
}

// hear delivers the oldest news of a pod.
func (p *play) hear() {
	u := p.upperPod()
	if len(u.news) == 0 {
		if u.heard.state != "gone" { // Something else of the pod has changed.
			p.deliver(u, u.heard)
		}
		return
	}
	news := u.news[0]
	u.news = u.news[1:]
	p.deliver(u, news)
}

func (p *play) deliver(u *upperTruth, news told) {
	u.heard = news
	line := "upper " + u.uid
	if news.cluster != "" && news.state != "finished" && news.state != "gone" {
		line += " " + news.state + "=" + news.cluster
	}
	if news.state == "finished" || news.state == "gone" {
		line += " " + news.state
	}
	if !news.refused.IsZero() {
		line += " refused=" + news.refused.Sub(p.now).String()
	}
	p.do(line + " " + u.args)
}

// catchUp delivers all news.
func (p *play) catchUp() {
	for _, u := range p.uppers {
		for len(u.news) > 0 {
			news := u.news[0]
			u.news = u.news[1:]
			p.deliver(u, news)
		}
	}
}

// below changes the lower pod of a pod that has been bound. It may be created while the upper one goes.
func (p *play) below() {
	u := p.upperPod()
	if u.cluster == "" || u.state == "chosen" {
		return
	}
	name := u.cluster + "/" + u.uid
	if u.below && u.state != "bound" && p.tape.yes(2) {
		u.below = false
		p.do("remove " + name)
		return
	}
	u.below = true
	line := "pod " + name + " own=" + u.uid + " " + u.args
	if p.tape.yes(4) {
		line = strings.Replace(line, " cpu=", " cpu=1", 1) // Admission below has made it larger.
	}
	old := p.pods[name]
	switch {
	case old != nil && old.Node != "":
		line += " node=" + old.Node + p.tape.of("", " finished", " ending", " failed=OutOfcpu")
	case p.tape.yes(2):
		line += " node=" + p.node() + p.tape.of("", "", " finished", " failed=UnexpectedAdmissionError")
	default:
		line += p.tape.of("", " hint="+p.node(), " unschedulable", " gated", " hint="+p.node()+" unschedulable", " ending")
	}
	p.do(line)
}

func (p *play) passTime() { p.do("wait " + p.tape.of("1s", "30s", "61s", "10m", "-1h", "3h", "-5s")) }

func (p *play) reserve() {
	uid := fmt.Sprint("r", len(p.kept)+1)
	line := "reserve " + uid + " owner=" + p.tape.of("set", "batch") + " cluster=" + p.cluster() + " ttl=" + p.tape.of("60s", "1h") + " cpu=" + p.tape.of("4", "2", "8")
	if p.tape.yes(2) {
		line += " node=" + p.node()
	}
	p.kept = append(p.kept, uid)
	p.do(line)
}

func (p *play) withdraw() {
	if len(p.kept) > 0 {
		p.do("withdraw " + p.kept[p.tape.choice(len(p.kept))])
	}
}

func (p *play) forgetCluster() { p.do("forget " + p.cluster()) }

// restart loses all that was in memory; the list that follows has every pod as it is now.
func (p *play) restart() {
	p.do("restart")
	for _, u := range p.uppers {
		u.news, u.heard = nil, told{}
		if u.state != "gone" {
			p.tell(u)
		}
	}
}

func (p *play) keep() {
	line := "keep"
	for _, u := range p.uppers {
		if u.heard.state == "gone" || len(u.news) > 0 && u.news[len(u.news)-1].state == "gone" {
			continue
		}
		line += " " + u.uid
	}
	p.do(line)
}

// strictBind is what the bind verb does.
func (p *play) strictBind() {
	u := p.upperPod()
	if u.state != "" && u.state != "chosen" {
		return
	}
	cluster, works := p.cluster(), p.tape.yes(2)
	line := "bind " + u.uid + " cluster=" + cluster + " " + u.args
	if !works {
		line += " fails"
	}
	if out := p.do(line); works && !strings.Contains(out, ", short of ") {
		u.state, u.cluster = "bound", cluster
		p.tell(u)
	}
}

// look asks about a pod in every way there is: the answers must agree, and leave no trace.
func (p *play) look() {
	u, cluster := p.upperPod(), p.cluster()
	pod, uid := asPod(p.object(u)), types.UID(u.uid)
	p.do("look " + u.uid + " cluster=" + cluster + " " + u.args)
	takes := p.pool.Takes(cluster, pod, uid)
	candidates := p.pool.Candidates(cluster, pod, uid, len(takes))
	verdict := p.pool.Judge(cluster, pod, uid)
	for node, reason := range takes {
		alone := p.pool.JudgeNode(cluster, node, pod, uid)
		if listed := slices.Contains(candidates, node); listed != (reason == "") || alone.Fits && !listed {
			p.t.Fatalf("%s/%s says %q, among the candidates: %t, alone: %+v", cluster, node, reason, listed, alone)
		}
	}
	if verdict.Fits && verdict.Node != candidates[0] || !verdict.Fits && len(candidates) > 0 && verdict.Reason != keys.PodAffinity {
		p.t.Fatalf("%+v, but the candidates are %v", verdict, candidates)
	}
}

func (p *play) object(u *upperTruth) *corev1.Pod {
	d := &datadriven.TestData{Pos: "fuzz"}
	for field := range strings.FieldsSeq(u.args) {
		key, value, _ := strings.Cut(field, "=")
		d.CmdArgs = append(d.CmdArgs, datadriven.CmdArg{Key: key, Vals: []string{value}})
	}
	return scriptPod(p.t, d, u.uid)
}

// count asks how many pods of a kind fit, which must leave no trace.
func (p *play) count() {
	u := p.upperPod()
	before := p.holds()
	if n, err := strconv.Atoi(strings.TrimSpace(p.do("replicas " + u.uid + " cluster=" + p.cluster() + " limit=5 " + u.args))); err != nil || n < 0 || n > 5 {
		p.t.Fatalf("%d of 5 replicas fit: %v", n, err)
	}
	if after := p.holds(); after != before {
		p.t.Fatalf("counting replicas changed the holds:\n%s\nto\n%s", before, after)
	}
}

// fault names what is wrong, "" if nothing is.
func (p *play) fault() string {
	for _, name := range p.pool.Clusters() {
		if fault := p.faultIn(name); fault != "" {
			return fault
		}
	}
	stands := map[types.UID]string{}
	for uid, hold := range p.pool.holds {
		c := p.pool.cells[hold.Cluster]
		switch {
		case hold.UID != uid:
			return fmt.Sprintf("the hold of %s is kept under %s", hold.UID, uid)
		case c != nil && c.holds[uid] != hold:
			return fmt.Sprintf("the hold of %s is not among those of its cluster", uid)
		case (hold.State == Reserved) != (p.pool.reserved[uid] == hold):
			return fmt.Sprintf("the hold of %s is %s, among the reservations: %t", uid, hold.State, p.pool.reserved[uid] == hold)
		case hold.used != nil && p.pool.holds[hold.used.UID] != nil:
			return fmt.Sprintf("the reservation %s counts, and so does the hold of %s in its place", hold.used.UID, uid)
		case hold.used != nil && stands[hold.used.UID] != "":
			return fmt.Sprintf("%s and %s both stand in for the reservation %s", uid, stands[hold.used.UID], hold.used.UID)
		}
		if hold.used != nil {
			stands[hold.used.UID] = string(uid)
		}
	}
	for _, u := range p.uppers {
		if fault := p.faultOf(u); fault != "" {
			return fault
		}
	}
	return p.wrongAnswer()
}

// faultIn looks at a cluster: room[r] = free[r] - holds - guests, on every node.
func (p *play) faultIn(name string) string {
	c := p.pool.cells[name]
	apart := 0
	guests := map[*Pod]bool{}
	for _, g := range c.guests {
		guests[g.pod] = true
		if len(g.pod.apart) > 0 {
			apart++
		}
	}
	for uid, hold := range c.holds {
		if p.pool.holds[uid] != hold {
			return fmt.Sprintf("%s: the hold of %s is over and still counts", name, uid)
		}
		_, there := c.rows[hold.Node]
		if there && len(hold.pod.apart) > 0 {
			apart++
		}
		own := c.own[uid]
		switch {
		case own.placed():
			return fmt.Sprintf("%s: %s is on node %q and has a %s hold: it counts twice", name, uid, own.Node, hold.State)
		case own != nil && guests[own.asks]:
			return fmt.Sprintf("%s: %s waits and has a %s hold: it counts twice", name, uid, hold.State)
		case (hold.State == Bound || hold.State == Mirrored) && hold.Node != "" && !there:
			return fmt.Sprintf("%s: the hold of %s is on %q, which is not there: it counts nowhere", name, uid, hold.Node)
		}
	}
	switch {
	case apart != c.apart:
		return fmt.Sprintf("%s: %d on their way keep others away, counted %d", name, apart, c.apart)
	case c.lifted != nil:
		return fmt.Sprintf("%s: the hold of %s is still lifted", name, c.lifted.UID)
	}
	for _, i := range c.inOrder() {
		if fault := p.faultOn(c, i, c.room.row(i), func(*Hold) bool { return true }); fault != "" {
			return name + ": " + fault
		}
	}
	return ""
}

// faultOn compares the room of a node with what is free less what counts there, summed up anew without bounds.
func (p *play) faultOn(c *cell, at int, room Resources, counts func(*Hold) bool) string {
	node := c.nodes[at]
	for _, resource := range c.room.names {
		if c.room.index(resource) < 0 {
			continue
		}
		want := p.left(c, at, resource, counts)
		if got := big.NewInt(room.Get(resource)); got.Cmp(want) != 0 {
			return fmt.Sprintf("on %s there is room for %s of %s, it should be %s", node.Name(), got, resource, want)
		}
	}
	return ""
}

// left is what is free of a resource on a node, less the holds that count and the guests.
func (p *play) left(c *cell, at int, resource corev1.ResourceName, counts func(*Hold) bool) *big.Int {
	node := c.nodes[at]
	sum := big.NewInt(node.Allocatable.Get(resource))
	take := func(r Resources) { sum.Sub(sum, big.NewInt(r.Get(resource))) }
	for _, pod := range node.Pods {
		take(pod.Requests)
	}
	for _, hold := range c.holds {
		if hold.Node == node.Name() && counts(hold) {
			take(hold.Requests)
		}
	}
	for _, g := range c.guests {
		if g.row == at {
			take(g.pod.Requests)
		}
	}
	return sum
}

// faultOf looks at an upper pod as the pool has heard of it.
func (p *play) faultOf(u *upperTruth) string {
	uid := types.UID(u.uid)
	hold := p.pool.holds[uid]
	switch u.heard.state {
	case "finished", "gone":
		if hold != nil {
			return fmt.Sprintf("%s is %s and has a hold", u.uid, u.heard.state)
		}
	case "bound":
		c := p.pool.cells[u.heard.cluster]
		if c == nil {
			return ""
		}
		if hold != nil && hold.Cluster != u.heard.cluster {
			return fmt.Sprintf("%s is bound to %s and held in %s", u.uid, u.heard.cluster, hold.Cluster)
		}
		gone := len(u.news) > 0 && u.news[len(u.news)-1].state == "gone" // Keep knows before the event is heard.
		if hold == nil && !gone && c.own[uid] == nil && !p.pool.bound[uid].counted {
			return fmt.Sprintf("%s is bound to %s, has not been seen there and has no hold", u.uid, u.heard.cluster)
		}
	}
	return ""
}

// wrongAnswer looks at what the last filter said: a node that fits is there, takes pods and has the room, whatever is held
// for this pod and its owner.
func (p *play) wrongAnswer() string {
	if p.asked == nil {
		return ""
	}
	pod := asPod(p.object(p.asked))
	owner := OwnerOf(pod.Object)
	for _, fits := range p.fits {
		cluster, name, _ := strings.Cut(fits, " ")
		c := p.pool.cells[cluster]
		at, there := c.rows[name]
		if !there {
			return fmt.Sprintf("%s fits on %s/%s, which is not there", p.asked.uid, cluster, name)
		}
		others := func(h *Hold) bool {
			return h.UID != types.UID(p.asked.uid) && (h.State != Reserved || !h.Owner.means(owner))
		}
		if node := c.nodes[at]; !node.Usable() {
			return fmt.Sprintf("%s fits on %s/%s, which takes no pods", p.asked.uid, cluster, name)
		}
		for _, resource := range slices.Concat(c.room.names, []corev1.ResourceName{"nvidia.com/gpu"}) {
			asked := big.NewInt(pod.Requests.Get(resource))
			if left := p.left(c, at, resource, others); asked.Sign() > 0 && left.Cmp(asked) < 0 {
				return fmt.Sprintf("%s fits on %s/%s, which has %s of %s left", p.asked.uid, cluster, name, left, resource)
			}
		}
	}
	return ""
}
