package identity

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

var resource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// server keeps one lease as an API server does, with versions and conflicts.
type server struct {
	coordinationclient.LeaseInterface

	mu      sync.Mutex
	lease   *coordinationv1.Lease
	version int
	fail    error         // the answer to everything, if set
	delay   time.Duration // before each answer
}

func (s *server) Leases(string) coordinationclient.LeaseInterface { return s }

func (s *server) Get(ctx context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	if s.lease == nil {
		return nil, apierrors.NewNotFound(resource, name)
	}
	return s.lease.DeepCopy(), nil
}

func (s *server) Create(ctx context.Context, lease *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != nil {
		return nil, apierrors.NewAlreadyExists(resource, lease.Name)
	}
	return s.write(lease)
}

func (s *server) Update(ctx context.Context, lease *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == nil && s.lease == nil {
		return nil, apierrors.NewNotFound(resource, lease.Name)
	}
	if s.fail == nil && s.lease.ResourceVersion != lease.ResourceVersion {
		return nil, apierrors.NewConflict(resource, lease.Name, errors.New("changed"))
	}
	return s.write(lease)
}

func (s *server) write(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	s.version++
	s.lease = lease.DeepCopy()
	s.lease.ResourceVersion = strconv.Itoa(s.version)
	return s.lease.DeepCopy(), nil
}

func (s *server) wait(ctx context.Context) error {
	s.mu.Lock()
	delay := s.delay
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(delay):
		return nil
	}
}

// set changes what the server has or does.
func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// holder is who holds the lease, "" for nobody.
func (s *server) holder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return holderOf(s.lease)
}

// process is a virtualnode that runs for as long as a test wants.
type process struct {
	*Lease
	changes int
	stop    func()
}

// noOne is that no lease may be taken from its holder.
func noOne() string { return "" }

// start starts a process; accept is whom it may take the lease from.
func start(t *testing.T, s *server, accept func() string) *process {
	t.Helper()
	p := &process{}
	p.Lease = New(s, "identity", "berlin", slog.New(slog.DiscardHandler), Asks{
		Barred: func() bool { return false }, Accepted: accept, Changed: func() { p.changes++ },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	p.stop = func() { cancel(); <-done }
	t.Cleanup(p.stop)
	return p
}

// keptOut starts a process that holds the lease, and a clone of it that does not get it.
func keptOut(t *testing.T, s *server, accept func() string) (first, clone *process) {
	t.Helper()
	first = start(t, s, noOne)
	first.after(t, time.Second, true, "")
	clone = start(t, s, accept)
	clone.after(t, 2*interval, false, first.me)
	return first, clone
}

// after waits, and compares what the process says then: whether it may write, and who keeps it from that.
func (p *process) after(t *testing.T, wait time.Duration, held bool, taken string) {
	t.Helper()
	<-time.After(wait)
	synctest.Wait()
	if p.Held() != held || p.Taken() != taken {
		t.Errorf("after %s: held %t, want %t; taken by %q, want %q", wait, p.Held(), held, p.Taken(), taken)
	}
}

// left is a lease as a process left it that renewed it last at some time before now.
func left(holder string, ago time.Duration) *server {
	renewed := metav1.NewMicroTime(time.Now().Add(-ago))
	return &server{version: 1, lease: &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: nameOf("identity", "berlin"), ResourceVersion: "1"},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &renewed},
	}}
}

func TestFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := start(t, s, noOne)
		p.after(t, time.Millisecond, true, "")
		p.after(t, time.Minute, true, "")
		if p.changes != 1 {
			t.Errorf("%d changes were told, want one", p.changes)
		}
		p.stop()
		if got := s.holder(); got != "" {
			t.Errorf("it left the lease to %q", got)
		}
	})
}

// One that comes after another takes over: at once from one that gave back, else a moment later, whatever clocks say.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		holder string
		ago    time.Duration
		wait   time.Duration
	}{
		"given back":       {"", time.Second, 0},
		"killed just now":  {"dead", time.Second, quiet},
		"killed long ago":  {"dead", time.Hour, quiet},
		"its clock is off": {"dead", -time.Hour, quiet},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := start(t, left(c.holder, c.ago), noOne)
				if c.wait > 0 {
					p.after(t, c.wait-time.Second, false, "")
				}
				p.after(t, 2*interval, true, "")
			})
		})
	}
}

// A clone is kept out while the other lives and for long after, also when that one restarts, however it does.
func TestClone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		first, clone := keptOut(t, s, noOne)
		first.stop()
		clone.after(t, interval+time.Millisecond, false, first.me)
		second := start(t, s, noOne)
		second.after(t, time.Millisecond, true, "")
		clone.after(t, time.Minute, false, second.me)
		if clone.changes != 2 {
			t.Errorf("the clone told of %d changes, want two", clone.changes)
		}
		second.stop()
		clone.after(t, forsaken-interval, false, second.me)
		clone.after(t, 2*interval, true, "")
	})
}

// Somebody says that the clone is the right one: the other stops.
func TestAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		first := start(t, s, noOne)
		first.after(t, time.Second, true, "")
		clone := start(t, s, func() string { return first.me })
		clone.after(t, interval, true, "")
		first.after(t, 2*interval, false, clone.me)
		clone.after(t, time.Minute, true, "")
	})
}

// A lower cluster that was restored from a backup shows an older holder, who lives no more.
func TestRestored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := start(t, s, noOne)
		p.after(t, time.Minute, true, "")
		old := left("dead", time.Hour)
		s.set(func() { s.lease, s.version = old.lease, 7 })
		p.after(t, quiet+3*interval, true, "")
	})
}

// Who cannot renew writes no more, and says why.
func TestSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := start(t, s, noOne)
		p.after(t, time.Second, true, "")
		s.set(func() { s.fail = errors.New("connection refused") })
		p.after(t, valid, false, "")
		p.after(t, time.Minute, false, "")
		if why := p.Unheld(); why != "connection refused" {
			t.Errorf("it says %q", why)
		}
		s.set(func() { s.fail = nil })
		p.after(t, interval, true, "")
		if why := p.Unheld(); why != "" {
			t.Errorf("it still says %q", why)
		}
	})
}

// An account without the right works as before there were leases, and with them as soon as it has the right.
func TestWithoutTheRight(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]error{
		"no right": apierrors.NewForbidden(resource, "x", errors.New("rbac")), "no namespace": apierrors.NewNotFound(resource, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{fail: fail}
				p := start(t, s, noOne)
				p.after(t, time.Millisecond, true, "")
				s.set(func() { s.fail = nil })
				p.after(t, interval, true, "")
				if s.holder() != p.me {
					t.Error("it does not use its right")
				}
			})
		})
	}
}

// A clone that was kept out stays out when the API server refuses it something for a moment, as one does that has just started, and
// when somebody deletes the lease.
func TestRefusedForAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		first, clone := keptOut(t, s, noOne)
		s.set(func() { s.fail = apierrors.NewForbidden(resource, "x", errors.New("rbac")) })
		clone.after(t, interval, false, first.me)
		s.set(func() { s.fail = nil })
		first.after(t, 2*interval, true, "")
		clone.after(t, 2*interval, false, first.me)
		s.set(func() { s.lease = nil })
		<-time.After(time.Minute)
		synctest.Wait()
		if first.Held() == clone.Held() {
			t.Errorf("after the lease was deleted both say that they hold it: %t", first.Held())
		}
	})
}

// The right one was stopped in an orderly way, and the other is to go on: it need not wait.
func TestAcceptedAfterItWasGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		accept := ""
		var mu sync.Mutex
		first, clone := keptOut(t, s, func() string { mu.Lock(); defer mu.Unlock(); return accept })
		first.stop()
		clone.after(t, 2*interval, false, first.me)
		mu.Lock()
		accept = clone.Taken()
		mu.Unlock()
		clone.after(t, interval+time.Millisecond, true, "")
	})
}

// A cluster that takes two seconds for each call is slow, and its lease is held all the same; a clone is kept out.
func TestSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{delay: 2 * time.Second}
		p := start(t, s, noOne)
		p.after(t, 5*time.Second, true, "")
		clone := start(t, s, noOne)
		for range 60 {
			p.after(t, time.Second, true, "")
			if clone.Held() {
				t.Fatal("the clone has the lease, too")
			}
		}
		clone.after(t, time.Second, false, p.me)
	})
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	if a, b := nameOf("Upper_One", "berlin"), nameOf("Upper_One", "paris"); a == b || len(a) != 38 {
		t.Errorf("the names are %q and %q", a, b)
	}
}
