package lab

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

// Need skips a test that starts processes under -short, and says so.
func Need(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a lab of real control planes, which -short leaves out; run: make test-lab")
	}
}

// NeedReal skips a test that needs a real node unless make test-real runs it, and says so. Its name begins with TestReal, and it
// lives in a file *_real_test.go.
func NeedReal(t testing.TB) {
	t.Helper()
	if os.Getenv("TESSERA_REAL") == "" {
		t.Skip("needs a node with kubelet, containerd and runc; run: make test-real")
	}
}

// NeedNetworks is NeedReal for a lab with Options.Networks. It skips also where this machine cannot have one, and says why.
func NeedNetworks(t testing.TB) {
	t.Helper()
	NeedReal(t)
	if err := networksPossible(); err != nil {
		t.Skipf("needs a lab with networks: %v", err)
	}
}

var networksPossible = sync.OnceValue(func() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	return realnode.Prepare(context.Background(), root, true)
})

// Shared is one lab for all tests of a package, started by the first test that asks for it.
//
//	var shared = lab.NewShared(lab.Options{Lower: 2, Nodes: 4})
//	func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }
//	func TestX(t *testing.T)    { l := shared.Get(t) ... }
type Shared struct {
	options Options
	once    sync.Once
	lab     *Lab
	err     error
}

// NewShared describes the lab; nothing is started yet.
func NewShared(options Options) *Shared {
	if options.Log == nil {
		options.Log = os.Stderr
	}
	return &Shared{options: options}
}

// Get gives the lab, starting it the first time. It skips under -short and fails the test if there is no lab or it has crashed.
func (s *Shared) Get(t testing.TB) *Lab {
	t.Helper()
	Need(t)
	s.start()
	if s.err != nil {
		t.Fatalf("starting the lab: %v", s.err)
	}
	if err := s.lab.Err(); err != nil {
		t.Fatalf("the lab does not work any more: %v", err)
	}
	return s.lab
}

func (s *Shared) start() {
	s.once.Do(func() { s.lab, s.err = Start(context.Background(), s.options) })
}

// Run runs the package's tests and stops the lab afterwards, also after a failure and on SIGINT or SIGTERM. The exit code is its result.
func (s *Shared) Run(m *testing.M) int { return Run(m, s) }

// Run is Shared.Run for a package with several labs.
func Run(m *testing.M, labs ...*Shared) int {
	stop := func() {
		for _, s := range labs {
			s.stop()
		}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		sig := <-signals
		fmt.Fprintf(os.Stderr, "lab: stopping because of %s\n", sig)
		stop()
		os.Exit(1)
	}()
	defer stop()
	return m.Run()
}

func (s *Shared) stop() {
	s.once.Do(func() { s.err = errStopped }) // not started: it never will be
	if s.lab != nil {
		s.lab.Stop()
	}
}

// Main is Shared for packages in which every test needs the lab: it is started before the first test and handed to use. Under
// -short nothing is started and use is not called; tests call Need.
func Main(m *testing.M, options Options, use func(*Lab)) int {
	flag.Parse()
	s := NewShared(options)
	if !testing.Short() {
		s.start()
		if s.err != nil {
			fmt.Fprintln(os.Stderr, "lab:", s.err)
			return 1
		}
		use(s.lab)
	}
	return s.Run(m)
}

// Eventually polls check until it returns nil; after the timeout the test fails with its last error.
func Eventually(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var last error
	if poll(ctx, "", func(context.Context) error { last = check(); return last }) != nil {
		t.Fatalf("not within %s: %v", timeout, last)
	}
}
