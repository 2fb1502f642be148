package through

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/load/latency"
)

// Times of the offered load.
const (
	tail      = 5 * time.Second  // after the last pod was offered; what runs by then counts as delivered
	lostAfter = 30 * time.Second // without any pod coming through: the rest is lost
)

// Offered is what became of a steady load, in rounds.
type Offered struct {
	OfferedPods int `json:"offeredPods"` // of all rounds
	// OfferedShare is the share of the pods that run above when the tail is over.
	OfferedShare float64 `json:"offeredShare"`
	// BindToCreated: from the moment a pod bound above is seen until the lower pod is.
	BindToCreated latency.Figure `json:"bindToCreated"`
	// RunningToReported: from the moment the lower pod is seen running until the upper one is.
	RunningToReported latency.Figure `json:"runningToReported"`
	// CPUMsPerPod and Calls are those of Run.
	CPUMsPerPod map[string]float64 `json:"cpuMsPerPod"`
	Calls       map[string]float64 `json:"calls"`
	// ResidentBytes is virtualnode's memory with all pods of a round running.
	ResidentBytes int64 `json:"residentBytes"`
}

// offer offers rate pods a second in each round and reports what came of them and how many never came through.
func (s *site) offer(ctx context.Context, rate, seconds, rounds int) (result Offered, lost int, err error) {
	echo, err := latency.StartEcho(ctx)
	if err != nil {
		return result, 0, err
	}
	defer echo.Stop()
	s.progress("offering %d pods a second for %d s, %d times", rate, seconds, rounds)
	var all []steady
	for i := range rounds {
		round, err := s.steadily(ctx, echo, fmt.Sprintf("%s-%d", wayOffered, i+1), rate, seconds)
		if err != nil {
			return result, 0, fmt.Errorf("offering pods, round %d: %w", i+1, err)
		}
		s.progress("round %d of %d: %d of %d run above", i+1, rounds, round.running, rate*seconds)
		all, lost = append(all, round), lost+round.lost
	}
	return sumUp(all, rate*seconds), lost, nil
}

// steady is one round.
type steady struct {
	created, reported latency.Round
	running, lost     int
	cpu, calls        map[string]float64
	resident          int64
}

func sumUp(rounds []steady, pods int) Offered {
	var created, reported []latency.Round
	sum := Offered{OfferedPods: pods * len(rounds)}
	var runs []Run
	for _, r := range rounds {
		created, reported = append(created, r.created), append(reported, r.reported)
		runs = append(runs, Run{CPUMsPerPod: r.cpu, Calls: r.calls})
		sum.OfferedShare += float64(r.running) / float64(sum.OfferedPods)
		sum.ResidentBytes = max(sum.ResidentBytes, r.resident)
	}
	sum.BindToCreated, sum.RunningToReported = latency.Of(created), latency.Of(reported)
	costs := mean(runs)
	sum.CPUMsPerPod, sum.Calls = costs.CPUMsPerPod, costs.Calls
	return sum
}

// steadily creates rate pods a second in a namespace of that name, on time however slow the API server is, with the echo
// asked meanwhile.
func (s *site) steadily(ctx context.Context, echo *latency.Echo, name string, rate, seconds int) (result steady, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched, err := s.prepareVia(ctx, name)
	if err != nil {
		return result, err
	}
	before, err := s.costs(ctx)
	if err != nil {
		return result, err
	}
	defer s.profile(ctx, name)()
	n, end := rate*seconds, time.Now().Add(time.Duration(seconds)*time.Second+tail)
	echoed, err := echo.During(ctx, func() error { return s.createOnTime(ctx, name, n, rate) })
	if err != nil {
		return result, err
	}
	sleepUntil(ctx, end)
	result.running, _ = watched.count(runsAbove)
	got, _ := watched.wait(ctx, n, runsAbove)
	after, err := s.costs(ctx)
	if err != nil {
		return result, err
	}
	result.lost, result.resident = n-got, s.virtualNode().RSS()
	result.cpu, result.calls = after.since(before, n)
	result.created = latency.NewRound(watched.delays(bound, exists), echoed)
	result.reported = latency.NewRound(watched.delays(runsBelow, runsAbove), echoed)
	return result, s.clear(ctx, name)
}

// createOnTime creates n pods above, rate a second.
func (s *site) createOnTime(ctx context.Context, name string, n, rate int) error {
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i := range n {
		if !sleepUntil(ctx, start.Add(time.Duration(i)*time.Second/time.Duration(rate))) {
			break
		}
		group.Go(func() error {
			_, err := s.upper.CoreV1().Pods(name).Create(ctx, pod(name, podName(i), s.lab.LowerName(1)), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("offering pods: %w", err)
	}
	return nil
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
