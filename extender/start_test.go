package extender

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// The fence of a start: the extender before this one has said yes to a pod whose bind is still in flight, so not even a
// consistent list knows of it. Virtual nodes are refused until settle has passed; a bind that lands before has its room.
// One that lands later finds what is left: only strict mode covers that.
func TestStartLetsBindsInFlightLand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bindAfter time.Duration
		taken     bool // the only hole, when somebody else asks for it
	}{
		"bound before the start":       {bindAfter: 0, taken: true},
		"bound as it starts":           {bindAfter: time.Millisecond, taken: true},
		"bound in the middle":          {bindAfter: 500 * time.Millisecond, taken: true},
		"bound at the last moment":     {bindAfter: 999 * time.Millisecond, taken: true},
		"bound later than anybody may": {bindAfter: 5 * time.Second, taken: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset(
				virtualNode("b"),
				&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "real"}},
				testPod("accepted", "8"),
			)
			// Made out here, as its caches keep goroutines of their own; what is timed happens in there.
			e := newExtender(DefaultConfig(), slog.New(slog.DiscardHandler), client, "test")
			e.join(t, "b")
			e.pool.Publish(time.Now(), snapshot.New(snapshot.Content{Cluster: "b", Nodes: []*snapshot.Node{lowerNode("b1", "8")}}))
			synctest.Test(t, func(t *testing.T) { startWhileABindIsInFlight(t, e, c.bindAfter, c.taken) })
		})
	}
}

func startWhileABindIsInFlight(t *testing.T, e *Extender, bindAfter time.Duration, taken bool) {
	t.Helper()
	bind := func(ctx context.Context) {
		bound := testPod("accepted", "8")
		bound.Spec.NodeName = "b"
		if _, err := e.client.CoreV1().Pods("ns").Update(ctx, bound, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	}
	if bindAfter == 0 {
		bind(t.Context())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, landed := make(chan error, 2), make(chan struct{})
	go func() { ended <- e.upper.run(ctx) }()
	go func() { ended <- e.start(ctx) }()
	if bindAfter > 0 {
		go func() {
			<-time.After(bindAfter)
			bind(ctx)
			close(landed)
		}()
	} else {
		close(landed)
	}
	ask := func(name string) *extenderv1.ExtenderFilterResult {
		e.clusters["b"].watch.SetHealth(healthy())
		return e.filter(&extenderv1.ExtenderArgs{Pod: testPod(name, "8"), NodeNames: &[]string{"b", "real"}})
	}
	<-time.After(990 * time.Millisecond)
	early := ask("early")
	if got := early.FailedAndUnresolvableNodes["b"]; got != text(keys.NotSynced) {
		t.Errorf("while it settles the virtual node is refused with %q, want %q", got, text(keys.NotSynced))
	}
	if names := *early.NodeNames; len(names) != 1 || names[0] != "real" {
		t.Errorf("while it settles %v pass, want the real node", names)
	}
	for e.readiness() != nil { // Settle counts from the lists before it; the clock of this test moves by itself.
		<-time.After(time.Millisecond)
	}
	late := ask("late")
	if got := late.FailedAndUnresolvableNodes["b"]; taken != (got == text(keys.Held)) {
		t.Errorf("after it the answer is %q", got)
	}
	<-landed
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
}
