package decisions

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tessera-k8s/tessera/bench/load/latency"
	"github.com/tessera-k8s/tessera/bench/standin"
	"github.com/tessera-k8s/tessera/bench/standin/play"
)

// Options say how much is measured.
type Options struct {
	Size
	Rounds  int
	Churn   float64 // events a second while it is loaded
	Waiting int     // pods that wait while it is loaded
	// Profiles is a folder for profiles of the extender; "" takes none.
	Profiles string
}

// questionsARound is enough for a p99.
const questionsARound = 300

// Result is what was measured at one size. Of a figure with a P99 it is the median over the rounds of each round's, in microseconds.
type Result struct {
	Size

	IdleP50Us   float64 `json:"idleP50Us"`
	IdleP99Us   float64 `json:"idleP99Us"`
	LoadedP50Us float64 `json:"loadedP50Us"`
	LoadedP99Us float64 `json:"loadedP99Us"`
	// EchoP99Us is that of a server that sends back what it is sent, asked in turn with the extender; IdleBeyondEchoUs and
	// LoadedBeyondEchoUs are the medians of the differences round by round.
	EchoP50Us          float64 `json:"echoP50Us"`
	EchoP99Us          float64 `json:"echoP99Us"`
	LoadedEchoP99Us    float64 `json:"loadedEchoP99Us"`
	IdleBeyondEchoUs   float64 `json:"idleBeyondEchoUs"`
	LoadedBeyondEchoUs float64 `json:"loadedBeyondEchoUs"`

	// RefusalP99Us is of questions that no node fits; the processor times are the extender's, a question.
	RefusalP99Us        float64 `json:"refusalP99Us"`
	RefusalCPUUs        float64 `json:"refusalCpuUs"`
	AcceptCPUUs         float64 `json:"acceptCpuUs"`
	PairsPerCPUSecond   float64 `json:"pairsPerCpuSecond"`
	FreshnessP50Ms      float64 `json:"freshnessP50Ms"`
	FreshnessP99Ms      float64 `json:"freshnessP99Ms"`
	LoadedCores         float64 `json:"loadedCores"` // of the extender while nothing is asked
	ReadySeconds        float64 `json:"readySeconds"`
	ListingBytes        int64   `json:"listingBytes"`
	ResidentBytes       int64   `json:"residentBytes"`
	ResidentAfterSettle int     `json:"residentAfterSeconds"`
}

// Measure starts everything and measures.
func Measure(ctx context.Context, out io.Writer, o Options, progress Progress) (*Result, error) {
	s, err := start(ctx, out, o.Size)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	s.profiles = o.Profiles
	r := &Result{Size: o.Size, ReadySeconds: s.ready.Seconds(), ListingBytes: s.listing}
	progress("%s are listed after %.1f s, %d MiB at most", o.Size, r.ReadySeconds, s.listing>>20)
	const settle = 20 * time.Second
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	s.profile(ctx, "rest-heap", "heap?gc=1")()
	r.ResidentBytes, r.ResidentAfterSettle = s.extender().RSS(), int(settle.Seconds())
	for _, step := range []func() error{
		func() error {
			took, err := s.rounds(ctx, o.Rounds, podOf)
			if err == nil {
				r.IdleP50Us, r.IdleP99Us, r.EchoP50Us, r.EchoP99Us, r.IdleBeyondEchoUs = took.p50, took.p99, took.echoP50, took.echoP99, took.beyond
			}
			return err
		},
		func() error {
			took, err := s.rounds(ctx, o.Rounds, largeOf)
			if err == nil {
				r.RefusalP99Us = took.p99
			}
			return err
		},
		func() error {
			defer s.profile(ctx, "costs-cpu", "profile?seconds=5")()
			return s.costs(ctx, r)
		},
		func() error {
			progress("filter p99 %.0f us idle, echo %.0f; refusal %.0f; %.0f us of processor time a refusal",
				r.IdleP99Us, r.EchoP99Us, r.RefusalP99Us, r.RefusalCPUUs)
			return s.loaded(ctx, o, r)
		},
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	progress("filter p99 %.0f us loaded, echo %.0f; fresh after %.1f ms", r.LoadedP99Us, r.LoadedEchoP99Us, r.FreshnessP99Ms)
	return r, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// rounds asks about pods and an echo in turn.
func (s *site) rounds(
	ctx context.Context, rounds int, pod func(class, number int) *corev1.Pod,
) (*delays, error) {
	var medians, tails, echoMedians, echoTails, differences []float64
	for range rounds {
		var took, echoed []time.Duration
		for i := range questionsARound {
			body, err := s.question(pod(i%classes, i/classes))
			if err != nil {
				return nil, err
			}
			_, ours, err := s.filter(ctx, body)
			if err != nil {
				return nil, err
			}
			theirs, err := s.askEcho(ctx, body)
			if err != nil {
				return nil, err
			}
			took, echoed = append(took, ours), append(echoed, theirs)
		}
		slices.Sort(took)
		slices.Sort(echoed)
		medians, tails = append(medians, at(took, 0.5)), append(tails, at(took, 0.99))
		echoMedians, echoTails = append(echoMedians, at(echoed, 0.5)), append(echoTails, at(echoed, 0.99))
		differences = append(differences, at(took, 0.99)-at(echoed, 0.99))
	}
	return &delays{
		p50: latency.Median(medians), p99: latency.Median(tails), echoP50: latency.Median(echoMedians), echoP99: latency.Median(echoTails),
		beyond: latency.Median(differences),
	}, nil
}

// delays are medians over rounds, in microseconds; beyond is that of the differences between the p99.
type delays struct{ p50, p99, echoP50, echoP99, beyond float64 }

// at is a percentile of sorted times, in microseconds.
func at(sorted []time.Duration, share float64) float64 {
	return float64(sorted[min(len(sorted)-1, int(share*float64(len(sorted))))].Nanoseconds()) / 1000
}

// costs measures the extender's own processor time.
func (s *site) costs(ctx context.Context, r *Result) (err error) {
	const questions = 2000
	cost := func(ask func(i int) error) (float64, error) {
		before := s.extender().CPU()
		for i := range questions {
			if err := ask(i); err != nil {
				return 0, err
			}
		}
		return float64((s.extender().CPU() - before).Microseconds()) / questions, nil
	}
	asking := func(pod func(class, number int) *corev1.Pod, prioritize bool) func(i int) error {
		return func(i int) error {
			body, err := s.question(pod(i%classes, i/classes))
			if err != nil {
				return err
			}
			if _, _, err = s.filter(ctx, body); err == nil && prioritize {
				_, err = s.prioritize(ctx, body)
			}
			return err
		}
	}
	if r.RefusalCPUUs, err = cost(asking(largeOf, false)); err != nil {
		return err
	}
	if r.AcceptCPUUs, err = cost(asking(podOf, false)); err != nil {
		return err
	}
	pair, err := cost(asking(podOf, true))
	if pair > 0 {
		r.PairsPerCPUSecond = 1e6 / pair
	}
	return err
}

// loaded measures while pods come and go below and others wait above.
func (s *site) loaded(ctx context.Context, o Options, r *Result) error {
	for i := range o.Waiting {
		pod := largeOf(i%classes, 10_000+i)
		created, err := s.upper.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("creating a pod that waits: %w", err)
		}
		body, err := s.question(created)
		if err != nil {
			return err
		}
		if _, _, err := s.filter(ctx, body); err != nil {
			return err
		}
	}
	if err := s.standIn.SetRates(ctx, play.Rates{Churn: o.Churn}); err != nil {
		return err
	}
	before, began := s.extender().CPU(), time.Now()
	wait := s.profile(ctx, "loaded-cpu", "profile?seconds=8")
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	wait()
	r.LoadedCores = (s.extender().CPU() - before).Seconds() / time.Since(began).Seconds()
	took, err := s.rounds(ctx, o.Rounds, podOf)
	if err != nil {
		return err
	}
	r.LoadedP50Us, r.LoadedP99Us, r.LoadedEchoP99Us, r.LoadedBeyondEchoUs = took.p50, took.p99, took.echoP99, took.beyond
	return s.freshness(ctx, r)
}

// freshness cordons a node below, and the other way round, and asks until an answer shows it.
func (s *site) freshness(ctx context.Context, r *Result) error {
	config, err := clientcmd.BuildConfigFromFlags("", s.dir+"/standin-1"+standin.Suffix)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig of a cluster: %w", err)
	}
	config.QPS = -1
	below, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("building client of a cluster: %w", err)
	}
	listed, err := below.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil || len(listed.Items) == 0 {
		return fmt.Errorf("finding a node: %d found, %w", len(listed.Items), err)
	}
	name := listed.Items[0].Name
	pod := podOf(0, 0)
	pod.UID = ""
	pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: listed.Items[0].Labels[corev1.LabelHostname]}
	pod.Spec.Containers[0].Resources.Requests = nil
	all := s.names
	s.names = s.names[:1]
	body, err := s.question(pod)
	s.names = all
	if err != nil {
		return err
	}
	var delays []time.Duration
	for i := range 100 {
		cordoned := i%2 == 0
		patch := fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, cordoned)
		began := time.Now()
		if _, err := below.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("cordoning a node: %w", err)
		}
		for {
			result, _, err := s.filter(ctx, body)
			if err != nil {
				return err
			}
			if fits := result.NodeNames != nil && len(*result.NodeNames) > 0; fits != cordoned {
				break
			}
			if time.Since(began) > time.Minute {
				return fmt.Errorf("node %s of standin-1 is cordoned: %t, and no answer shows it", name, cordoned)
			}
		}
		delays = append(delays, time.Since(began))
	}
	slices.Sort(delays)
	r.FreshnessP50Ms, r.FreshnessP99Ms = at(delays, 0.5)/1000, at(delays, 0.99)/1000
	return nil
}

// Print writes results as a table.
func Print(out io.Writer, results []*Result) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nclusters x nodes\tidle p50\tp99\techo p50\tp99\tloaded p99\techo p99\trefusal p99\tCPU a refusal\ta yes\t"+
		"pairs/CPU s\tfresh p99\tloaded cores\tready\tMiB, listing\tthen\t")
	for _, r := range results {
		fmt.Fprintf(table, "%d x %d\t", r.Clusters, r.Nodes)
		for _, us := range []float64{
			r.IdleP50Us, r.IdleP99Us, r.EchoP50Us, r.EchoP99Us, r.LoadedP99Us, r.LoadedEchoP99Us, r.RefusalP99Us, r.RefusalCPUUs, r.AcceptCPUUs,
		} {
			fmt.Fprintf(table, "%.0f us\t", us)
		}
		fmt.Fprintf(table, "%.0f\t%.1f ms\t%.2f\t%.0f s\t%d\t%d\t\n",
			r.PairsPerCPUSecond, r.FreshnessP99Ms, r.LoadedCores, r.ReadySeconds, r.ListingBytes>>20, r.ResidentBytes>>20)
	}
	return table.Flush()
}
