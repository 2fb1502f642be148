package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
)

const upperNamespace, lowerNamespace = "shop", "t-shop"

// bed is an upper cluster and a lower one, both of them maps, with any number of keepers between them.
type bed struct {
	*testing.T
	upper, lower *fake.Clientset
	above        *Upper
	hub          *Hub
	events       *record.FakeRecorder

	mu        sync.Mutex
	inhabited map[string]bool // virtual nodes that pods of the namespace are on
}

type noPods struct{}

func (noPods) ByIndex(string, string) ([]any, error) { return nil, nil }

func (noPods) HasSynced() bool { return true }

func newBed(t *testing.T, upper, lower []runtime.Object) *bed {
	t.Helper()
	opted := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: upperNamespace, Labels: map[string]string{keys.Enabled: "true"}}}
	b := &bed{
		T: t, upper: fake.NewClientset(append(upper, opted)...), lower: fake.NewClientset(lower...), hub: NewHub(),
		events: record.NewFakeRecorder(100), inhabited: map[string]bool{},
	}
	var err error
	if b.above, err = NewUpper(b.upper, b.hub.Look); err != nil {
		t.Fatal(err)
	}
	go func() { _ = b.above.Run(t.Context()) }()
	return b
}

// keeper runs one of an isolated cluster until stop is called or the test ends.
func (b *bed) keeper(name string, mode Mode) (stop func()) {
	b.Helper()
	factory := informers.NewSharedInformerFactory(b.upper, 0)
	all := factory.Core().V1().Namespaces()
	k, err := New(Setup{
		Member: &Member{
			Name: name, LowerName: func(upper string) string { return "t-" + upper }, Below: noPods{},
			Cluster: func() types.UID { return "uid" }, Reachable: func() bool { return true },
		},
		Mode: mode, Upper: b.above, Hub: b.hub, Lower: b.lower, Namespaces: all.Lister(), Changes: all.Informer(),
		Target: func() translate.Target {
			return translate.Target{VirtualNode: name, Identity: "us", Rules: translate.Rules{NamespacePrefix: "t-"}}
		},
		Inhabited: func(string) bool { return b.lives(name) },
		Room:      func(context.Context, string) (namespaces.Used, error) { return namespaces.Used{}, nil },
		Barred:    func() bool { return false }, Zone: func(string) string { return "" }, Absent: time.Millisecond,
		Events: b.events, Log: slog.New(slog.DiscardHandler),
	}, "us")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	factory.StartWithContext(ctx)
	go func() { k.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	b.Cleanup(stop)
	return stop
}

func (b *bed) lives(node string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inhabited[node]
}

func (b *bed) live(node string, does bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inhabited[node] = does
}

func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: upperNamespace, Name: "web", UID: "web-uid"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

// ours makes a lower Service of the upper one, as those virtual nodes have left it.
func ours(users ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Namespace, s.Labels = lowerNamespace, map[string]string{keys.Upper: "us"}
		s.Annotations = map[string]string{
			keys.UpperNamespace: upperNamespace, keys.UpperName: "web", keys.UsedBy: strings.Join(users, ","),
		}
	}
}

// becomes waits until the Service below has the port, unless that is 0, and is used by those; none is that there is no Service.
func (b *bed) becomes(port int32, users ...string) *corev1.Service {
	b.Helper()
	last := ""
	for range 500 {
		found, err := b.lower.CoreV1().Services(lowerNamespace).Get(b.Context(), "web", metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && len(users) == 0:
			return nil
		case err != nil:
			last = err.Error()
		case slices.Equal(strings.Split(found.Annotations[keys.UsedBy], ","), users) && (port == 0 || found.Spec.Ports[0].Port == port):
			return found
		default:
			last = fmt.Sprintf("it is used by %q, port %d", found.Annotations[keys.UsedBy], found.Spec.Ports[0].Port)
		}
		<-time.After(20 * time.Millisecond)
	}
	b.Fatalf("the Service below is not used by %q: %s", users, last)
	return nil
}

// A Service is below for as long as a virtual node of the cluster has pods of its namespace: each says so for itself, and changes above
// come down without what the lower cluster gave it.
func TestUsers(t *testing.T) {
	t.Parallel()
	b := newBed(t, []runtime.Object{service()}, nil)
	b.lower.PrependReactor("create", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		spec := &action.(clienttesting.CreateAction).GetObject().(*corev1.Service).Spec
		spec.ClusterIP, spec.ClusterIPs = "10.0.0.9", []string{"10.0.0.9"} // As an API server does.
		return false, nil, nil
	})
	b.keeper("v", Namespace)
	b.keeper("w", Namespace)
	port := int32(8000)
	touch := func() {
		b.Helper()
		port++
		_, err := b.upper.CoreV1().Services(upperNamespace).Patch(b.Context(), "web", types.MergePatchType,
			fmt.Appendf(nil, `{"spec":{"ports":[{"port":%d}]}}`, port), metav1.PatchOptions{})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.live("v", true)
	touch()
	b.becomes(port, "v")
	b.live("w", true)
	touch()
	b.becomes(port, "v", "w")
	b.live("v", false)
	touch()
	if left := b.becomes(port, "w"); left.Spec.ClusterIP != "10.0.0.9" {
		t.Errorf("below is %+v", left.Spec)
	}
	if err := b.upper.CoreV1().Services(upperNamespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.becomes(0)
}

// With `services: none` what an earlier configuration left goes, as far as it is this virtual node's and no other needs it.
func TestClear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		present *corev1.Service
		want    []string
	}{
		"its own":             {service(ours("v")), nil},
		"shared":              {service(ours("v", "w")), []string{"w"}},
		"another's":           {service(ours("w")), []string{"w"}},
		"nobody's of Tessera": {service(func(s *corev1.Service) { s.Namespace = lowerNamespace }), []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil, []runtime.Object{c.present})
			listed := make(chan struct{}, 1)
			b.lower.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
				select {
				case listed <- struct{}{}:
				default:
				}
				return false, nil, nil
			})
			b.keeper("v", None)
			<-listed
			b.becomes(0, c.want...)
		})
	}
}

// What cannot come is told on the Service above.
func TestTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		present []runtime.Object
		err     error
		words   string
	}{
		"name is taken":   {[]runtime.Object{service(func(s *corev1.Service) { s.Namespace = lowerNamespace })}, nil, reasonNameConflict},
		"policy":          {nil, apierrors.NewForbidden(corev1.Resource("services"), "web", errors.New("policy")), "policy"},
		"webhook is down": {nil, apierrors.NewInternalError(errors.New("failed calling webhook")), "failed calling webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{service()}, c.present)
			b.lower.PrependReactor("create", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
				return c.err != nil, nil, c.err
			})
			b.live("v", true)
			b.keeper("v", Namespace)
			select {
			case told := <-b.events.Events:
				if !strings.Contains(told, c.words) || !strings.Contains(told, "In cluster v") {
					t.Errorf("told: %s", told)
				}
			case <-time.After(20 * time.Second):
				t.Error("nobody was told")
			}
		})
	}
}
