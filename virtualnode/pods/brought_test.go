package pods

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/objects"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/policies"
	"github.com/tessera-k8s/tessera/virtualnode/tokens"
)

// What a pod brings along is refused: no pod is sent, and what holds for the next ones of the template is learnt, until one is created.
func TestBroughtRefused(t *testing.T) {
	t.Parallel()
	secrets := corev1.Resource("secrets")
	for name, c := range map[string]struct {
		err    error
		reason keys.Reason
		learnt bool
	}{
		"webhook is down":        {apierrors.NewInternalError(errors.New("failed calling webhook")), keys.RefusedBelow, true},
		"policy of the cluster":  {apierrors.NewForbidden(secrets, "s", errors.New("policy")), keys.RefusedBelow, true},
		"name is taken":          {pair.ErrForeign, keys.NameConflict, true},
		"network policy differs": {policies.ErrNotTheSame, keys.NetworkPolicy, true},
		"quota":                  {apierrors.NewForbidden(secrets, "s", errors.New("exceeded quota: q")), keys.Quota, false},
		"no token":               {tokens.ErrRefused, keys.TokenRefused, false},
		"not read above":         {objects.ErrUnread, keys.ObjectsUnread, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, []runtime.Object{upperPod("1", restarts(corev1.RestartPolicyNever))}, nil)
				err := fmt.Errorf("creating Secret s below: %w", c.err)
				b.Objects = func(context.Context, *corev1.Pod) ([]error, error) { return nil, err }
				steps := func(during time.Duration) {
					for begin := time.Now(); time.Since(begin) < during; <-time.After(time.Second) {
						b.sees(t)
						_, _ = b.reconcile(t.Context(), "ns/p") // What is tried again soon comes back as an error.
					}
				}
				steps(time.Minute)
				if got := strings.Join(calls(b.lower), " "); strings.Contains(got, "create pods") {
					t.Errorf("a pod was sent: %s", got)
				}
				if shown := pair.Condition(b.podAbove("ns/p"), keys.LowerPlaced); shown == nil || shown.Reason != string(c.reason) {
					t.Errorf("shown above: %+v, want %s", shown, c.reason)
				}
				if learnt := b.Refusals.Refusals(); (len(learnt) > 0) != c.learnt {
					t.Errorf("learnt: %v, want some: %t", learnt, c.learnt)
				}
				if tried := b.Refusals.Due(time.Now().Add(2 * time.Minute)); len(tried) > 0 {
					t.Error("a dry run of the pod would disprove what it does not show")
				}
				b.Objects = func(context.Context, *corev1.Pod) ([]error, error) { return nil, nil }
				steps(time.Minute)
				if learnt := b.Refusals.Refusals(); len(learnt) > 0 {
					t.Errorf("after the pod was created there is still %v", learnt)
				}
			})
		})
	}
}
