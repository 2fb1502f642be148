package serve

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// quick are times for tests; the lease must not run out under them on a busy machine.
func quick() LeaderElection {
	return LeaderElection{
		Enabled: true, LeaseDuration: metav1.Duration{Duration: 30 * time.Second}, RenewDeadline: metav1.Duration{Duration: 20 * time.Second},
		RetryPeriod: metav1.Duration{Duration: 20 * time.Millisecond},
	}
}

func newElection(t *testing.T, config LeaderElection, client kubernetes.Interface) *Election {
	t.Helper()
	e, err := NewElection(config, slog.New(slog.DiscardHandler), client.CoordinationV1(), "ns", "lease")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// replica is an election that runs.
type replica struct {
	*Election
	stop    context.CancelFunc
	working chan context.Context // has the work's context once it works
	ended   chan error           // has what Run returned
	last    chan struct{}        // closed by the test: the work may end
}

func start(t *testing.T, client kubernetes.Interface) *replica {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &replica{
		Election: newElection(t, quick(), client), stop: cancel,
		working: make(chan context.Context, 1), ended: make(chan error, 1), last: make(chan struct{}),
	}
	go func() {
		r.ended <- r.Run(ctx, func(ctx context.Context) error {
			r.working <- ctx
			<-ctx.Done()
			<-r.last
			return nil
		})
	}()
	return r
}

func TestOneReplicaWorksAndHandsOver(t *testing.T) {
	client := fake.NewClientset()
	first := start(t, client)
	working := <-first.working
	second := start(t, client)
	if !first.Leads() || second.Leads() {
		t.Fatalf("first leads: %v, second leads: %v", first.Leads(), second.Leads())
	}
	first.stop()
	<-working.Done()
	select {
	case <-second.working:
		t.Fatal("the second replica works while the first has not ended")
	case <-time.After(200 * time.Millisecond):
	}
	close(first.last)
	if err := <-first.ended; err != nil {
		t.Errorf("an orderly end is the error %v", err)
	}
	<-second.working // At once, not when the lease runs out.
	if first.Leads() || !second.Leads() {
		t.Errorf("first leads: %v, second leads: %v", first.Leads(), second.Leads())
	}
	close(second.last)
	second.stop()
	if err := <-second.ended; err != nil {
		t.Error(err)
	}
}

func TestAReplicaThatWaitsEndsAtOnce(t *testing.T) {
	client := fake.NewClientset()
	first := start(t, client)
	<-first.working
	second := start(t, client)
	second.stop()
	if err := <-second.ended; err != nil {
		t.Error(err)
	}
	if !first.Leads() {
		t.Error("the first replica was disturbed")
	}
	close(first.last)
}

func TestLosingTheLeaseIsAnErrorAtOnce(t *testing.T) {
	client := fake.NewClientset()
	var taken atomic.Bool
	another := "another"
	client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return taken.Load(), nil, apierrors.NewConflict(coordinationv1.Resource("leases"), "lease", errors.New("it was changed"))
	})
	client.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return taken.Load(), &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &another}}, nil
	})
	r := start(t, client)
	working := <-r.working
	taken.Store(true)
	if err := <-r.ended; err == nil || !strings.Contains(err.Error(), "losing the lease lease") { // Although the work has not ended.
		t.Errorf("error %v", err)
	}
	<-working.Done()
	if r.Leads() {
		t.Error("it still leads")
	}
	close(r.last)
}

func TestTheFence(t *testing.T) {
	var passed []string
	next := roundTripper(func(r *http.Request) (*http.Response, error) {
		passed = append(passed, r.Method)
		return &http.Response{Body: http.NoBody}, nil
	})
	client := fake.NewClientset()
	off := quick()
	off.Enabled = false
	for _, election := range []*Election{newElection(t, quick(), client), newElection(t, off, client)} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			request, err := http.NewRequestWithContext(t.Context(), method, "http://lower", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := election.Fence(next).RoundTrip(request)
			if err == nil {
				_ = answer.Body.Close()
			} else if !errors.Is(err, errFenced) {
				t.Error(err)
			}
		}
	}
	if got := strings.Join(passed, " "); got != "GET GET POST DELETE" {
		t.Errorf("passed: %s; want reading alone without the lease, and all where there is no election", got)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
