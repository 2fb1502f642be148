package policies

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/services"
)

// bed is a keeper of an isolated cluster between two fake ones.
type bed struct {
	*testing.T
	*Keeper
	lower  *fake.Clientset
	events *record.FakeRecorder
}

type noPods struct{}

func (noPods) ByIndex(string, string) ([]any, error) { return nil, nil }

func (noPods) HasSynced() bool { return true }

// newBed runs a keeper until the test ends. The lower cluster answers creations with the last of the refusals, if there are any.
func newBed(t *testing.T, mode Mode, upper, lower []runtime.Object, refusals ...error) *bed {
	t.Helper()
	client := fake.NewClientset(append(upper, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})...)
	b := &bed{T: t, lower: fake.NewClientset(lower...), events: record.NewFakeRecorder(100)}
	for _, refusal := range refusals {
		b.lower.PrependReactor("create", "networkpolicies", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, refusal })
	}
	above, err := NewUpper(client)
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	all := factory.Core().V1().Namespaces()
	b.Keeper, err = New(Setup{
		Member: &services.Member{
			Name: "v", LowerName: func(upper string) string { return "t-" + upper }, Below: noPods{},
			Cluster: func() types.UID { return "uid" }, Reachable: func() bool { return true },
		},
		Mode: mode, Upper: above, Hub: services.NewHub(), Lower: b.lower, Namespaces: all.Lister(), Changes: all.Informer(),
		Target: func() translate.Target {
			return translate.Target{VirtualNode: "v", Identity: "us", Rules: translate.Rules{NamespacePrefix: "t-"}}
		},
		Inhabited: func(string) bool { return true },
		Room:      func(context.Context, string) (namespaces.Used, error) { return namespaces.Used{}, nil },
		Barred:    func() bool { return false }, Absent: time.Millisecond, Events: b.events, Log: slog.New(slog.DiscardHandler),
	}, "us")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory.StartWithContext(ctx)
	go func() { _ = above.Run(ctx) }()
	ended := make(chan struct{})
	go func() { b.Keeper.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return b
}

func policy(change ...func(*networkingv1.NetworkPolicy)) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "web-uid"},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

// odd has a policy let in who is known to the upper cluster alone.
func odd(p *networkingv1.NetworkPolicy) {
	p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{
		{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{keys.Enabled: "true"}}},
	}}}
}

func lowerPolicy(users string) *networkingv1.NetworkPolicy {
	return policy(func(p *networkingv1.NetworkPolicy) {
		p.Namespace, p.Labels = "t-shop", map[string]string{keys.Upper: "us"}
		p.Annotations = map[string]string{keys.UpperNamespace: "shop", keys.UpperName: "web", keys.UsedBy: users}
	})
}

// usedBy waits until the policy below is used by those, "" for none, which is that there is no policy.
func (b *bed) usedBy(want string) {
	b.Helper()
	last := error(nil)
	for range 500 {
		found, err := b.lower.NetworkingV1().NetworkPolicies("t-shop").Get(b.Context(), "web", metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && want == "", err == nil && want != "" && found.Annotations[keys.UsedBy] == want:
			return
		case err == nil:
			err = errors.New("it is used by " + found.Annotations[keys.UsedBy])
		}
		last = err
		<-time.After(20 * time.Millisecond)
	}
	b.Fatalf("the policy below is not used by %q: %v", want, last)
}

func (b *bed) told(words string) {
	b.Helper()
	select {
	case told := <-b.events.Events:
		if !strings.Contains(told, words) || !strings.Contains(told, "In cluster v") {
			b.Errorf("told: %s", told)
		}
	case <-time.After(20 * time.Second):
		b.Errorf("nobody was told of %q", words)
	}
}

// With `networkPolicies: none` what an earlier configuration left goes, as far as no other virtual node needs it.
func TestClear(t *testing.T) {
	t.Parallel()
	for users, want := range map[string]string{"v": "", "v,w": "w"} {
		b := newBed(t, None, []runtime.Object{policy()}, []runtime.Object{lowerPolicy(users)})
		b.usedBy(want)
		if err := b.Bring(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1"}}); err != nil {
			t.Error(err)
		}
	}
}

// The policies of its namespace are below before a pod is; with `refuse` one that cannot mean the same there keeps out the pods that it
// selects, and no others.
func TestBring(t *testing.T) {
	t.Parallel()
	pod := func(app string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: app + "-1", Labels: map[string]string{"app": app}}}
	}
	for name, c := range map[string]struct {
		mode   Mode
		policy *networkingv1.NetworkPolicy
		app    string
		err    error
		left   bool
	}{
		"the same":               {Refuse, policy(), "web", nil, false},
		"another, ignored":       {Ignore, policy(odd), "web", nil, true},
		"another, refused":       {Refuse, policy(odd), "web", ErrNotTheSame, true},
		"another, of other pods": {Refuse, policy(odd), "db", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, c.mode, []runtime.Object{c.policy}, nil)
			err := errors.New("not yet")
			for range 500 {
				if err = b.Bring(t.Context(), pod(c.app)); err == nil || errors.Is(err, ErrNotTheSame) {
					break
				}
				<-time.After(20 * time.Millisecond) // The caches are filled.
			}
			if !errors.Is(err, c.err) {
				t.Errorf("bringing them: %v, want %v", err, c.err)
			}
			b.usedBy("v")
			if left := b.NotTheSame(); (left != "") != c.left {
				t.Errorf("left out: %q", left)
			}
			if c.left {
				b.told(reasonNotTheSame)
			}
		})
	}
}

// What cannot come is told on the policy above, and keeps pods from going without it.
func TestRefused(t *testing.T) {
	t.Parallel()
	foreign := lowerPolicy("v")
	foreign.Labels = nil
	down := apierrors.NewInternalError(errors.New("failed calling webhook"))
	for name, c := range map[string]struct {
		present []runtime.Object
		refusal []error
		err     error
		words   string
	}{
		"name is taken":   {[]runtime.Object{foreign}, nil, pair.ErrForeign, reasonNameConflict},
		"webhook is down": {nil, []error{down}, down, "failed calling webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, Ignore, []runtime.Object{policy()}, c.present, c.refusal...)
			b.told(c.words)
			if err := b.Bring(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}}); !errors.Is(err, c.err) {
				t.Errorf("a pod may come without it: %v", err)
			}
		})
	}
}
