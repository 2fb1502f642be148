package through

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Times of the offered load.
const (
	tail      = 5 * time.Second  // after the last pod was offered; what runs by then counts as delivered
	lostAfter = 30 * time.Second // without any pod coming through: the rest is lost
)

// Offered is what became of a steady load.
type Offered struct {
	OfferedPods int `json:"offeredPods"`
	// OfferedShare is the share of the pods that run above when the tail is over.
	OfferedShare float64 `json:"offeredShare"`
	// BindToCreated: from the moment a pod bound above is seen until the lower pod is.
	BindToCreatedP50Ms float64 `json:"bindToCreatedP50Ms"`
	BindToCreatedP99Ms float64 `json:"bindToCreatedP99Ms"`
	// RunningToReported: from the moment the lower pod is seen running until the upper one is.
	RunningToReportedP50Ms float64 `json:"runningToReportedP50Ms"`
	RunningToReportedP99Ms float64 `json:"runningToReportedP99Ms"`
	// CPUMsPerPod and Calls are those of Run.
	CPUMsPerPod map[string]float64 `json:"cpuMsPerPod"`
	Calls       map[string]float64 `json:"calls"`
	// ResidentBytes is virtualnode's memory with all these pods running.
	ResidentBytes int64 `json:"residentBytes"`
}

// offer creates rate pods a second, on time however slow the API server is, and reports what came of them and how many
// never came through.
func (s *site) offer(ctx context.Context, rate, seconds int) (result Offered, lost int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const name = "offered"
	watched, err := s.prepareVia(ctx, name)
	if err != nil {
		return result, 0, err
	}
	n := rate * seconds
	before, err := s.costs(ctx)
	if err != nil {
		return result, 0, err
	}
	defer s.profile(ctx, name)()
	s.progress("offering %d pods a second for %d s", rate, seconds)
	group, groupCtx := errgroup.WithContext(ctx)
	start := time.Now()
	for i := range n {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if !sleepUntil(groupCtx, due) {
			break
		}
		group.Go(func() error {
			_, err := s.upper.CoreV1().Pods(name).Create(groupCtx, pod(name, podName(i), s.lab.LowerName(1)), metav1.CreateOptions{})
			return err
		})
		if i > 0 && i%(10*rate) == 0 {
			running, _ := watched.count(runsAbove)
			s.progress("%d offered, %d run above", i, running)
		}
	}
	if err := group.Wait(); err != nil {
		return result, 0, fmt.Errorf("offering pods: %w", err)
	}
	sleepUntil(ctx, start.Add(time.Duration(seconds)*time.Second+tail))
	running, _ := watched.count(runsAbove)
	got, _ := watched.wait(ctx, n, lostAfter, runsAbove)
	after, err := s.costs(ctx)
	if err != nil {
		return result, 0, err
	}
	created, reported := watched.delays(bound, exists), watched.delays(runsBelow, runsAbove)
	result = Offered{
		OfferedPods: n, OfferedShare: float64(running) / float64(n),
		BindToCreatedP50Ms: percentile(created, 0.5), BindToCreatedP99Ms: percentile(created, 0.99),
		RunningToReportedP50Ms: percentile(reported, 0.5), RunningToReportedP99Ms: percentile(reported, 0.99),
		ResidentBytes: s.virtualNode().RSS(),
	}
	result.CPUMsPerPod, result.Calls = after.since(before, n)
	s.progress("%d of %d run above", got, n)
	return result, n - got, s.clear(ctx, name)
}

// sleepUntil reports whether ctx still lives then.
func sleepUntil(ctx context.Context, at time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Until(at)):
		return true
	}
}
