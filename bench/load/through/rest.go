package through

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/standin"
)

// podsPerLowerNode says how many lower nodes the stand-in plays: a real one takes 110 pods.
const podsPerLowerNode = 100

// restSeconds is how long a process is looked at: two resyncs, which are a minute apart.
const restSeconds = 120

// Rest is what one virtualnode process takes while nothing happens.
type Rest struct {
	VirtualNodes int `json:"virtualNodes"`
	Pods         int `json:"pods"` // on all virtual nodes together
	// CPUPercent is that of one processor, EmptyCPUPercent the same before there was a pod.
	CPUPercent      float64 `json:"cpuPercent"`
	EmptyCPUPercent float64 `json:"emptyCpuPercent"`
	// ResyncMs is the processor time that the pods cost a minute, in which each is looked at once, ResyncMicrosPerPod the share of
	// each.
	ResyncMs           float64 `json:"resyncMs"`
	ResyncMicrosPerPod float64 `json:"resyncMicrosPerPod"`
	// HeapBytesPerPod is of what lives on the heap after a collection, ResidentBytes all that the process has with its pods.
	HeapBytesPerPod float64 `json:"heapBytesPerPod"`
	ResidentBytes   int64   `json:"residentBytes"`
	// ReadySeconds is from the creation of the first pod until all run above.
	ReadySeconds float64 `json:"readySeconds"`
}

// MeasureRest has pods run on virtual nodes whose lower clusters the stand-in plays, and then looks at virtualnode at rest: so
// many pods on one virtual node, and on twenty.
func MeasureRest(ctx context.Context, out io.Writer, pods int, progress Progress) ([]Rest, error) {
	var all []Rest
	for _, virtualNodes := range []int{1, 20} {
		r, err := measureRest(ctx, out, virtualNodes, pods, progress)
		if err != nil {
			return nil, fmt.Errorf("%d virtual nodes at rest: %w", virtualNodes, err)
		}
		all = append(all, r)
	}
	return all, nil
}

func measureRest(ctx context.Context, out io.Writer, virtualNodes, pods int, progress Progress) (r Rest, err error) {
	s, names, err := newPlayedSite(ctx, out, progress, virtualNodes, pods)
	if err != nil {
		return r, err
	}
	defer s.stop()
	r = Rest{VirtualNodes: virtualNodes, Pods: pods}
	empty, err := s.atRest(ctx)
	if err != nil {
		return r, err
	}
	started := time.Now()
	if err := s.occupy(ctx, names, pods/virtualNodes); err != nil {
		return r, err
	}
	r.ReadySeconds = time.Since(started).Seconds()
	progress("%d pods run on %d virtual nodes after %.0f s", pods, virtualNodes, r.ReadySeconds)
	full, err := s.atRest(ctx)
	if err != nil {
		return r, err
	}
	r.EmptyCPUPercent, r.CPUPercent = empty.cpuPercent(), full.cpuPercent()
	r.ResyncMs = (full.cpu - empty.cpu).Seconds() * 1000 * 60 / restSeconds
	r.ResyncMicrosPerPod = 1000 * r.ResyncMs / float64(pods)
	r.HeapBytesPerPod = float64(full.heap-empty.heap) / float64(pods)
	r.ResidentBytes = s.virtualNode().RSS()
	return r, nil
}

// playedSite is a site whose lower clusters the stand-in plays.
type playedSite struct {
	site
	process *standin.Process
}

func (s *playedSite) stop() {
	s.process.Stop()
	s.lab.Stop()
}

// newPlayedSite starts one with so many virtual nodes, with room for so many pods altogether, and returns their names.
func newPlayedSite(
	ctx context.Context, out io.Writer, progress Progress, virtualNodes, pods int,
) (s *playedSite, names []string, err error) {
	l, err := lab.Start(ctx, lab.Options{
		Parts: []string{lab.PartVirtualNode}, BoundByHand: true, Log: out,
		Config: map[string]map[string]any{lab.PartVirtualNode: {"extender": "", "extenderTokenFile": "", "hint": "off"}},
	})
	if err != nil {
		return nil, nil, err
	}
	s = &playedSite{site: site{lab: l, progress: progress}}
	if s.upper, err = lab.NewClient(l.Upper()); err != nil {
		l.Stop()
		return nil, nil, err
	}
	played := standin.DefaultOptions()
	played.Clusters, played.Pods, played.Lean = virtualNodes, 0, true
	played.Nodes = max(1, pods/virtualNodes/podsPerLowerNode)
	played.Dir = filepath.Join(l.Dir(), "clusters")
	if s.process, err = standin.StartProcess(ctx, "", played); err != nil {
		l.Stop()
		return nil, nil, err
	}
	for i := range virtualNodes {
		names = append(names, fmt.Sprintf("%s%d", played.Prefix, i+1))
	}
	if err := s.usable(ctx, names); err != nil {
		s.stop()
		return nil, nil, err
	}
	return s, names, nil
}

// usable waits until pods may come to all virtual nodes.
func (s *site) usable(ctx context.Context, names []string) error {
	return until(ctx, func(ctx context.Context) error {
		for _, name := range names {
			node, err := s.upper.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if len(node.Spec.Taints) > 1 {
				return fmt.Errorf("virtual node %s has the taints %v", name, node.Spec.Taints)
			}
		}
		return nil
	})
}

// occupy has so many pods run on each virtual node.
func (s *site) occupy(ctx context.Context, names []string, each int) error {
	const within = 20 * time.Minute
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, name := range names {
		group.Go(func() error {
			if err := namespace(groupCtx, s.upper, name); err != nil {
				return err
			}
			return create(groupCtx, s.upper, name, name, each)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, name := range names {
		begin := time.Now()
		for waiting := each; waiting > 0; {
			list, err := s.upper.CoreV1().Pods(name).List(ctx, metav1.ListOptions{FieldSelector: "status.phase!=" + string(corev1.PodRunning)})
			if err != nil {
				return fmt.Errorf("listing pods: %w", err)
			}
			if waiting = len(list.Items); time.Since(begin) > within {
				return fmt.Errorf("%d pods on %s do not run after %s", waiting, name, within)
			}
			sleepUntil(ctx, time.Now().Add(time.Second))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// rest is what a process was seen to take.
type rest struct {
	cpu  time.Duration // in restSeconds
	heap int64         // bytes that live at the end
}

func (r rest) cpuPercent() float64 { return 100 * r.cpu.Seconds() / restSeconds }

// atRest looks at virtualnode while nothing happens.
func (s *site) atRest(ctx context.Context) (r rest, err error) {
	sleepUntil(ctx, time.Now().Add(quiet))
	before := s.virtualNode().CPU()
	sleepUntil(ctx, time.Now().Add(restSeconds*time.Second))
	r.cpu = s.virtualNode().CPU() - before
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	r.heap, err = s.liveHeap(ctx)
	return r, err
}

// liveHeap is how many bytes live on virtualnode's heap after a collection.
func (s *site) liveHeap(ctx context.Context) (int64, error) {
	text, err := get(ctx, s.lab.PartURL(lab.PartVirtualNode)+"/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, fmt.Errorf("reading the heap of virtualnode: %w", err)
	}
	found := heapAlloc.FindSubmatch(text)
	if found == nil {
		return 0, errors.New("reading the heap of virtualnode: the profile does not say how much of it lives")
	}
	return strconv.ParseInt(string(found[1]), 10, 64)
}

// heapAlloc is the line of a heap profile in text that says how much lives, see runtime.MemStats.
var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// PrintRest writes a table.
func PrintRest(out io.Writer, all []Rest) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nvirtual nodes\tpods\t% of a CPU at rest\twithout pods\tms a resync\tµs a pod\theap bytes a pod\tMiB resident\t")
	for _, r := range all {
		fmt.Fprintf(table, "%d\t%d\t%.2f\t%.2f\t%.0f\t%.1f\t%.0f\t%d\t\n", r.VirtualNodes, r.Pods, r.CPUPercent, r.EmptyCPUPercent, r.ResyncMs,
			r.ResyncMicrosPerPod, r.HeapBytesPerPod, r.ResidentBytes>>20)
	}
	return table.Flush()
}
