package through

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/load/latency"
)

// wayOffered is the steady load, which goes the way via.
const wayOffered = "offered"

// The ways that pods take at saturation.
const (
	wayVia    = "via"    // through virtualnode that tells no hints
	wayHinted = "hinted" // through virtualnode that gives each pod a hint, in the mode that is the default
	wayFloor  = "floor"  // through the floor program
	wayDirect = "direct" // straight into the lower cluster

	wayFloorHinted = "floor-hinted" // through the floor program, with a hint for each pod
)

// Run is a burst that went one way.
type Run struct {
	Pods          int     `json:"pods"`
	Lost          int     `json:"lost"`
	Seconds       float64 `json:"seconds"` // from the first creation until the last pod is seen running where it was created
	PodsPerSecond float64 `json:"podsPerSecond"`
	// CPUMsPerPod is processor time by process, Calls are accepted requests for pods and events by side; both per pod.
	CPUMsPerPod map[string]float64 `json:"cpuMsPerPod"`
	Calls       map[string]float64 `json:"calls"`
}

// both are the clients of both sides.
func (s *site) both() []kubernetes.Interface { return []kubernetes.Interface{s.upper, s.lower} }

// burst creates n pods at once above, bound to node, or below if node is "", waits until all run and clears them away.
// late gives processor time that is known only when the run is over.
func (s *site) burst(ctx context.Context, watched *observer, name, node string, n int, late func() map[string]time.Duration) (Run, error) {
	where, runs := s.upper, runsAbove
	if node == "" {
		where, runs = s.lower, runsBelow
	}
	before, err := s.costs(ctx)
	if err != nil {
		return Run{}, err
	}
	defer s.profile(ctx, name)()
	start := time.Now()
	if err := create(ctx, where, name, node, n); err != nil {
		return Run{}, err
	}
	got, last := watched.wait(ctx, n, runs)
	after, err := s.costs(ctx)
	if err != nil {
		return Run{}, err
	}
	if late != nil {
		maps.Copy(after.cpu, late())
	}
	run := Run{Pods: n, Lost: n - got, Seconds: last.Sub(start).Seconds()}
	run.PodsPerSecond = float64(got) / run.Seconds
	run.CPUMsPerPod, run.Calls = after.since(before, n)
	return run, s.clear(ctx, name)
}

// Saturation is what the ways came to.
type Saturation struct {
	// Rounds are the runs of each way, one a round.
	Rounds map[string][]Run `json:"rounds"`
	// PodsPerSecond are medians of the rounds; ViaToFloor, ViaToFloorHinted (hinted to the floor program with hints) and
	// HintedToFloor (hinted to the one without) the medians of the ratios within rounds.
	ViaPodsPerSecond    float64 `json:"viaPodsPerSecond"`
	HintedPodsPerSecond float64 `json:"hintedPodsPerSecond"`
	FloorPodsPerSecond  float64 `json:"floorPodsPerSecond"`
	DirectPodsPerSecond float64 `json:"directPodsPerSecond"`
	ViaToFloor          float64 `json:"viaToFloor"`
	ViaToFloorHinted    float64 `json:"viaToFloorHinted"`
	HintedToFloor       float64 `json:"hintedToFloor"`

	FloorHintedPodsPerSecond float64 `json:"floorHintedPodsPerSecond"`
	// WritesPerPod are those of virtualnode (and of the floor program) on both sides, without those of the bench, the lower
	// scheduler and KWOK.
	WritesPerPod       float64 `json:"writesPerPod"`
	HintedWritesPerPod float64 `json:"hintedWritesPerPod"`
	FloorWritesPerPod  float64 `json:"floorWritesPerPod"`

	FloorHintedWritesPerPod float64 `json:"floorHintedWritesPerPod"`
}

// saturate sends n pods each way, round after round, after a smaller round that does not count: the first burst of all is slow
// whichever way it goes.
func (s *site) saturate(ctx context.Context, n, rounds int) (*Saturation, error) {
	result := &Saturation{Rounds: map[string][]Run{}}
	for round := range rounds + 1 {
		for _, way := range turn(round) {
			name := fmt.Sprintf("round %d of %d", round, rounds)
			pods := n
			if round == 0 {
				name, pods = "warm-up", n/4
			}
			run, err := s.send(ctx, way, fmt.Sprintf("%s-%d", way, round), pods)
			if err != nil {
				return nil, fmt.Errorf("saturation, %s, %s: %w", way, name, err)
			}
			s.progress("%s, %-12s: %d of %d pods in %.1f s, %.0f a second", name, way, run.Pods-run.Lost, run.Pods, run.Seconds, run.PodsPerSecond)
			if round > 0 {
				result.Rounds[way] = append(result.Rounds[way], run)
			}
		}
	}
	result.sum()
	return result, nil
}

// turn is the order of the ways in a round. No way is always the first, and none always comes after the same one.
func turn(round int) []string {
	ways := []string{wayVia, wayFloor, wayHinted, wayFloorHinted, wayDirect}
	order := slices.Concat(ways[round%len(ways):], ways[:round%len(ways)])
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

func (s *site) send(ctx context.Context, way, name string, n int) (Run, error) {
	switch way {
	case wayVia:
		return s.via(ctx, name, "off", n)
	case wayHinted:
		return s.via(ctx, name, "nominated", n)
	case wayFloor:
		return s.floor(ctx, way, name, nil, n)
	case wayFloorHinted:
		return s.floor(ctx, way, name, s.nodes(), n)
	default:
		return s.direct(ctx, name, n)
	}
}

// sum fills in what follows from the rounds.
func (r *Saturation) sum() {
	speed := func(way string) []float64 {
		var all []float64
		for _, run := range r.Rounds[way] {
			all = append(all, run.PodsPerSecond)
		}
		return all
	}
	ratio := func(way, to string) float64 {
		all := speed(way)
		for i, floor := range speed(to) {
			all[i] /= floor
		}
		return latency.Median(all)
	}
	r.ViaPodsPerSecond, r.HintedPodsPerSecond = latency.Median(speed(wayVia)), latency.Median(speed(wayHinted))
	r.FloorPodsPerSecond, r.DirectPodsPerSecond = latency.Median(speed(wayFloor)), latency.Median(speed(wayDirect))
	r.FloorHintedPodsPerSecond = latency.Median(speed(wayFloorHinted))
	r.ViaToFloor, r.HintedToFloor = ratio(wayVia, wayFloor), ratio(wayHinted, wayFloor)
	r.ViaToFloorHinted = ratio(wayHinted, wayFloorHinted)
	// What pods created directly cost are the writes of KWOK and the lower scheduler and one creation by the bench, which it
	// makes above on the other ways.
	own := func(way string) float64 {
		return podWrites(mean(r.Rounds[way]).Calls) - podWrites(mean(r.Rounds[wayDirect]).Calls)
	}
	r.WritesPerPod, r.HintedWritesPerPod, r.FloorWritesPerPod = own(wayVia), own(wayHinted), own(wayFloor)
	r.FloorHintedWritesPerPod = own(wayFloorHinted)
}

// podWrites adds up the calls that change something, but for the events of the lower scheduler, which it writes when it finds
// the time.
func podWrites(calls map[string]float64) (total float64) {
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		read := strings.Contains(name, " GET ") || strings.Contains(name, " LIST ")
		if !read && (!strings.HasPrefix(name, "lower") || !strings.HasSuffix(name, "events")) {
			total += calls[name]
		}
	}
	return total
}

// lost is how many pods never came through.
func (r *Saturation) lost() (n int) {
	for _, runs := range r.Rounds {
		for _, run := range runs {
			n += run.Lost
		}
	}
	return n
}

// mean is the mean of the costs of several runs.
func mean(runs []Run) Run {
	all := Run{CPUMsPerPod: map[string]float64{}, Calls: map[string]float64{}}
	for _, run := range runs {
		for name, value := range run.CPUMsPerPod {
			all.CPUMsPerPod[name] += value / float64(len(runs))
		}
		for name, value := range run.Calls {
			all.Calls[name] += value / float64(len(runs))
		}
	}
	return all
}
