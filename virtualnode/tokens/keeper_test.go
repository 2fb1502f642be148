package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// bench is a keeper between two fake clusters. Each token says its number and what it was asked for.
type bench struct {
	*testing.T
	*Keeper
	lower        *fake.Clientset
	above, below cache.Indexer
	asked        atomic.Int64
	refuse       atomic.Bool
	distrust     atomic.Bool
	grants       int64 // seconds in place of what was asked for
	run          func()
}

type synced struct{ cache.Indexer }

func (synced) HasSynced() bool { return true }

func newBench(t *testing.T, lower ...runtime.Object) *bench {
	t.Helper()
	b := &bench{T: t, lower: fake.NewClientset(lower...), above: cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil),
		below: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{pair.ByUpper: pair.IndexByUpper})}
	upper := fake.NewClientset()
	upper.PrependReactor("create", "serviceaccounts", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if b.refuse.Load() {
			return true, nil, apierrors.NewForbidden(corev1.Resource("serviceaccounts/token"), "web", errors.New("policy"))
		}
		request := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
		request.Status.Token = fmt.Sprintf("%d for %v, %d s, %s", b.asked.Add(1), request.Spec.Audiences, *request.Spec.ExpirationSeconds,
			request.Spec.BoundObjectRef.UID)
		if b.grants > 0 {
			request.Spec.ExpirationSeconds = &b.grants
		}
		return true, request, nil
	})
	target := func() translate.Target {
		target := translate.Target{VirtualNode: "v", Identity: "us", Rules: translate.Rules{
			Allow: []translate.Power{translate.UpperToken}, UpperAPI: "https://192.0.2.1", NamespacePrefix: "t-",
		}}
		if b.distrust.Load() {
			target.Rules.Allow = nil
		}
		return target
	}
	var err error
	b.Keeper, err = New(Setup{
		Name: "v", Identity: "us", Target: target, Upper: upper, Lower: b.lower, Above: b.above, Below: synced{b.below},
		Synced: func() bool { return true }, Welcome: func(pod *corev1.Pod) bool { return pod.Labels[keys.Enabled] != "false" },
		Barred: func() bool { return false }, Events: record.NewFakeRecorder(100), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.run = func() {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { b.Keeper.Run(ctx); close(ended) }()
		t.Cleanup(func() { cancel(); <-ended })
	}
	return b
}

// pod is one with the volume that admission adds.
func pod(name string) *corev1.Pod {
	life := int64(3607)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name + "-uid")},
		Spec: corev1.PodSpec{ServiceAccountName: "web", Volumes: []corev1.Volume{{
			Name: "kube-api-access-x", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &life}},
			}}},
		}}},
	}
}

func (b *bench) lowerPod(upper *corev1.Pod) *corev1.Pod {
	lower, err := translate.LowerPod(upper, b.Target())
	if err != nil {
		b.Fatal(err)
	}
	return lower
}

// puts has a pod be on either side.
func (b *bench) puts(store cache.Indexer, pod *corev1.Pod, key string) {
	b.Helper()
	if err := store.Add(pod); err != nil {
		b.Fatal(err)
	}
	b.Look(pod, key)
}

func (b *bench) goes(store cache.Indexer, pod *corev1.Pod, key string) {
	b.Helper()
	if err := store.Delete(pod); err != nil {
		b.Fatal(err)
	}
	b.Look(pod, key)
}

// eventually waits until the Secrets below hold these tokens.
func (b *bench) eventually(want ...string) []corev1.Secret {
	b.Helper()
	var got []string
	for range 500 {
		secrets, err := b.lower.CoreV1().Secrets("t-shop").List(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		got = nil
		for i := range secrets.Items {
			got = append(got, string(secrets.Items[i].Data["token-0"]))
		}
		if slices.Equal(got, want) {
			return secrets.Items
		}
		<-time.After(20 * time.Millisecond)
	}
	b.Fatalf("the tokens below are %q, want %q", got, want)
	return nil
}

// A pod's token is below before it, bound to it, made anew in time, and gone with it.
func TestLife(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run()
	upper := pod("a")
	b.puts(b.above, upper, "shop/a")
	if err := b.Bring(t.Context(), upper); err != nil {
		t.Fatal(err)
	}
	const first = "1 for [], 14400 s, a-uid"
	secret := b.eventually(first)[0]
	if secret.Name != translate.TokenSecret(upper) || secret.Annotations[keys.UpperUID] != "a-uid" || secret.Labels[keys.VirtualNode] != "v" {
		t.Errorf("the Secret is %+v", secret.ObjectMeta)
	}
	if at, err := time.Parse(time.RFC3339, secret.Annotations[keys.RefreshAfter]); err != nil || time.Until(at) < 7000*time.Second || time.Until(at) > 2*time.Hour {
		t.Errorf("it is made anew at %s (%v), not after half of its life", at, err)
	}
	b.puts(b.below, b.lowerPod(upper), "shop/a")
	for len(b.present("shop/a")) == 0 {
		<-time.After(10 * time.Millisecond)
	}
	if err := b.Bring(t.Context(), upper); err != nil { // Another attempt to create the pod.
		t.Fatal(err)
	}
	b.eventually(first)

	spoilt := secret.DeepCopy()
	spoilt.Data["token-0"] = []byte("somebody's")
	if _, err := b.lower.CoreV1().Secrets("t-shop").Update(t.Context(), spoilt, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually("2 for [], 14400 s, a-uid")
	if err := b.lower.CoreV1().Secrets("t-shop").Delete(t.Context(), secret.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually("3 for [], 14400 s, a-uid")

	b.goes(b.above, upper, "shop/a")
	<-time.After(200 * time.Millisecond)
	b.eventually("3 for [], 14400 s, a-uid") // The pod below may be an orphan whose upper pod comes back.
	b.goes(b.below, b.lowerPod(upper), "shop/a")
	b.eventually()
}

// What is due is made anew while the pod runs, also after a restart; while the upper cluster refuses, the old token stays.
func TestRefresh(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.grants = 4 // Half of which is two seconds.
	upper := pod("a")
	b.puts(b.above, upper, "shop/a")
	if err := b.Bring(t.Context(), upper); err != nil {
		t.Fatal(err)
	}
	b.puts(b.below, b.lowerPod(upper), "shop/a")
	b.run()
	b.eventually("1 for [], 14400 s, a-uid")
	b.refuse.Store(true)
	told := func() bool {
		select {
		case event := <-b.Events.(*record.FakeRecorder).Events:
			return strings.Contains(event, reasonNotRefreshed) && strings.Contains(event, "policy")
		case <-time.After(10 * time.Second):
			return false
		}
	}
	if !told() {
		t.Error("nobody was told that the token is not made anew")
	}
	b.eventually("1 for [], 14400 s, a-uid")
	b.refuse.Store(false)
	b.eventually("2 for [], 14400 s, a-uid")
	b.distrust.Store(true)
	b.eventually()
}

// A token that is refused, a Secret that is somebody else's, a pod that is not welcome.
func TestRefused(t *testing.T) {
	t.Parallel()
	taken := pod("taken")
	b := newBench(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "t-shop", Name: translate.TokenSecret(taken)}})
	b.run()
	if err := b.Bring(t.Context(), taken); !errors.Is(err, pair.ErrForeign) {
		t.Errorf("got %v", err)
	}
	b.eventually("")
	b.refuse.Store(true)
	if err := b.Bring(t.Context(), pod("a")); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "web") {
		t.Errorf("got %v", err)
	}
	b.refuse.Store(false)
	unwelcome := pod("unwelcome")
	unwelcome.Labels = map[string]string{keys.Enabled: "false"}
	b.puts(b.above, unwelcome, "shop/unwelcome")
	b.puts(b.below, b.lowerPod(unwelcome), "shop/unwelcome") // Forged.
	<-time.After(200 * time.Millisecond)
	b.eventually("")
	plain := pod("plain")
	plain.Spec.Volumes = nil
	if err := b.Bring(t.Context(), plain); err != nil {
		t.Error(err)
	}
	b.eventually("")
}

// No token is kept in memory, and what is kept is not trimmed twice.
func TestTrim(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	secret := b.secret(pod("a"), map[string][]byte{"token-0": []byte("x")}, time.Now().Add(time.Hour))
	once, err := trim(secret)
	if err != nil || len(once.(*corev1.Secret).Data) > 0 || fresh(once.(*corev1.Secret)) == 0 {
		t.Errorf("trimmed to %+v, %v", once, err)
	}
	if twice, err := trim(once); err != nil || fresh(twice.(*corev1.Secret)) == 0 {
		t.Errorf("trimmed twice: %+v, %v", twice, err)
	}
}
