package virtualnode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/history"
)

// upperAnswering is a watch on an upper cluster that gives these answers to probes: resource versions, "" for none at all.
// The last one stays.
func upperAnswering(versions ...string) *upperWatch {
	client := fake.NewClientset()
	client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		version := versions[0]
		if len(versions) > 1 {
			versions = versions[1:]
		}
		if version == "" {
			return true, nil, errors.New("connection refused")
		}
		return true, &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: version}}, nil
	})
	return newUpperWatch(client, slog.New(slog.DiscardHandler), func() []string { return nil })
}

func TestUpperHistory(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		versions []string
		want     error
	}{
		"goes on":                      {[]string{"9", "10", "10", "11"}, nil},
		"goes back":                    {[]string{"99", "100", "99"}, history.ErrWentBack},
		"goes back while it is silent": {[]string{"100", "", "", "20"}, history.ErrWentBack},
		"silent for a while":           {[]string{"100", "", "", "100"}, nil},
		"of another make":              {[]string{"b", "a"}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := upperAnswering(c.versions...).run(ctx); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}

// The time at which the upper cluster was last not whole moves with every sign of that, and with nothing else.
func TestUpperNotWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := upperAnswering("1", "", "2")
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() { _ = u.run(ctx) }()
		synctest.Wait()
		if !u.brokenAt().Equal(begin) || !u.answers() {
			t.Errorf("after the start: broken at %s, answers %t", u.brokenAt(), u.answers())
		}
		<-time.After(upperProbeInterval)
		synctest.Wait()
		silent := begin.Add(upperProbeInterval)
		if !u.brokenAt().Equal(silent) || u.answers() {
			t.Errorf("silent: broken at %s, answers %t", u.brokenAt(), u.answers())
		}
		<-time.After(upperProbeInterval)
		synctest.Wait()
		if !u.brokenAt().Equal(silent) || !u.answers() {
			t.Errorf("back: broken at %s, answers %t", u.brokenAt(), u.answers())
		}
		reflector := cache.NewReflector(&cache.ListWatch{}, &corev1.Pod{}, cache.NewStore(cache.MetaNamespaceKeyFunc), 0)
		for _, end := range []error{io.EOF, apierrors.NewResourceExpired("too old")} {
			u.watchFailed(ctx, reflector, end)
		}
		if !u.brokenAt().Equal(silent) {
			t.Error("a watch that ends as they all do is no fault")
		}
		u.watchFailed(ctx, reflector, errors.New("forbidden"))
		if !u.brokenAt().After(silent) {
			t.Error("a watch that fails is not taken down")
		}
	})
}
