package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// LeaderElection says how one of several replicas is chosen to work. The keys are those of Kubernetes' own components.
type LeaderElection struct {
	// Enabled lets several replicas run, one of which works.
	Enabled bool `json:"enabled"`
	// LeaseDuration is how long the others wait for a sign of life before one of them takes over.
	LeaseDuration metav1.Duration `json:"leaseDuration"`
	// RenewDeadline is how long the one that works goes on without having been able to give a sign of life.
	RenewDeadline metav1.Duration `json:"renewDeadline"`
	// RetryPeriod is the time between two signs of life, and between two attempts to take over.
	RetryPeriod metav1.Duration `json:"retryPeriod"`
}

// DefaultLeaderElection is off, with the times of Kubernetes' own components.
func DefaultLeaderElection() LeaderElection {
	return LeaderElection{
		LeaseDuration: metav1.Duration{Duration: 15 * time.Second}, RenewDeadline: metav1.Duration{Duration: 10 * time.Second},
		RetryPeriod: metav1.Duration{Duration: 2 * time.Second},
	}
}

// Validate reports every fault at once; namespace is where the lease is.
func (c LeaderElection) Validate(namespace string) error {
	if !c.Enabled {
		return nil
	}
	var errs []error
	if namespace == "" {
		errs = append(errs, errors.New("namespace: empty: the lease of leaderElection needs one"))
	}
	if c.LeaseDuration.Duration < time.Second || c.LeaseDuration.Duration%time.Second != 0 {
		errs = append(errs, fmt.Errorf("leaderElection: leaseDuration: %s is not a number of whole seconds", c.LeaseDuration.Duration))
	}
	if c.RenewDeadline.Duration >= c.LeaseDuration.Duration {
		errs = append(errs, fmt.Errorf("leaderElection: renewDeadline: %s is not shorter than leaseDuration, %s",
			c.RenewDeadline.Duration, c.LeaseDuration.Duration))
	}
	if shortest := time.Duration(leaderelection.JitterFactor * float64(c.RetryPeriod.Duration)); c.RetryPeriod.Duration <= 0 ||
		c.RenewDeadline.Duration <= shortest {
		errs = append(errs, fmt.Errorf("leaderElection: retryPeriod: %s is not above 0 with %g times as much below renewDeadline, %s",
			c.RetryPeriod.Duration, leaderelection.JitterFactor, c.RenewDeadline.Duration))
	}
	return errors.Join(errs...)
}

// Election lets the one of several replicas work that holds a lease. Where it is not enabled, this replica works.
type Election struct {
	config  LeaderElection
	log     *slog.Logger
	lock    *resourcelock.LeaseLock
	elector atomic.Pointer[leaderelection.LeaderElector] // nil before Run and after it
}

// NewElection returns an election by the lease of a name in a namespace.
func NewElection(config LeaderElection, log *slog.Logger, client coordinationclient.LeasesGetter, namespace, name string) (
	*Election, error) {
	replica, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("naming this replica: %w", err)
	}
	return &Election{config: config, log: log, lock: &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Client: client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: replica + "_" + string(uuid.NewUUID())},
	}}, nil
}

// errEnded is the orderly end of an election: the work has ended, or there was none.
var errEnded = errors.New("the work has ended")

// Run calls work once this replica holds the lease, and gives the lease back when work has ended. Losing it is an error,
// returned at once whatever work does: it is to end the process, and whoever restarts that starts from a clean state.
func (e *Election) Run(ctx context.Context, work func(context.Context) error) error {
	if !e.config.Enabled {
		return work(ctx)
	}
	electing, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errEnded)
	var leads atomic.Bool
	defer context.AfterFunc(ctx, func() {
		if !leads.Load() {
			stop(errEnded)
		}
	})()
	ended := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          watchedLock{e.lock, func() { stop(e.deposed()) }, &leads},
		LeaseDuration: e.config.LeaseDuration.Duration, RenewDeadline: e.config.RenewDeadline.Duration,
		RetryPeriod: e.config.RetryPeriod.Duration, Name: e.lock.LeaseMeta.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				leads.Store(true)
				e.log.Info("This replica works now", "lease", e.lock.LeaseMeta.Name)
				working, cancel := context.WithCancel(ctx)
				defer cancel()
				defer context.AfterFunc(held, cancel)()
				ended <- work(working)
				if held.Err() == nil {
					stop(errEnded)
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("electing a leader: %w", err)
	}
	e.elector.Store(elector)
	defer e.elector.Store(nil) // What is left of the work writes no more.
	e.log.Info("Waiting for the lease", "lease", e.lock.LeaseMeta.Name)
	elector.Run(electing)
	if !errors.Is(context.Cause(electing), errEnded) {
		return e.deposed()
	}
	if !leads.Load() {
		return nil
	}
	e.release(ctx)
	return <-ended
}

func (e *Election) deposed() error {
	return fmt.Errorf("losing the lease %s: another replica works now, or the API server did not take this one's signs of life",
		e.lock.LeaseMeta.Name)
}

// release gives the lease back, so that nobody has to wait for its end.
func (e *Election) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.config.RetryPeriod.Duration)
	defer cancel()
	record, _, err := e.lock.Get(ctx)
	if err == nil && record.HolderIdentity == e.lock.Identity() {
		record.HolderIdentity, record.LeaseDurationSeconds = "", 1
		err = e.lock.Update(ctx, *record)
	}
	if err != nil {
		e.log.Warn("Giving back the lease failed, the next replica waits for its end", "lease", e.lock.LeaseMeta.Name, "err", err)
	}
}

// watchedLock tells at once when another holds the lease that this replica works by. The elector alone would go on until
// renewDeadline, as after a process was stopped and goes on.
type watchedLock struct {
	resourcelock.Interface
	lost  func()
	leads *atomic.Bool
}

// Get implements resourcelock.Interface.
func (l watchedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err == nil && l.leads.Load() && record.HolderIdentity != l.Identity() {
		l.lost()
	}
	return record, raw, err
}

// Leads reports whether this replica holds the lease for sure: it has given a sign of life within renewDeadline, which is
// before anybody else may take over.
func (e *Election) Leads() bool {
	if !e.config.Enabled {
		return true
	}
	elector := e.elector.Load()
	return elector != nil && elector.IsLeader() && elector.Check(e.config.RenewDeadline.Duration-e.config.LeaseDuration.Duration) == nil
}

// errFenced is the answer to requests of a replica that may not write.
var errFenced = errors.New("this replica does not hold the lease: another may be at work")

// Fence keeps requests that change something from leaving a replica that does not lead, or does not any more and has not
// noticed yet.
func (e *Election) Fence(next http.RoundTripper) http.RoundTripper { return fence{e, next} }

type fence struct {
	election *Election
	next     http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (f fence) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !f.election.Leads() {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errFenced
	}
	return f.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport behind.
func (f fence) WrappedRoundTripper() http.RoundTripper { return f.next }
