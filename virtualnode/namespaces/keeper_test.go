package namespaces

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tessera-k8s/tessera/internal/keys"
)

func quotaOf(used set) *corev1.ResourceQuota {
	quota := &corev1.ResourceQuota{Status: corev1.ResourceQuotaStatus{Used: corev1.ResourceList{}}}
	for kind, number := range used {
		quota.Status.Used[corev1.ResourceName(kind)] = resource.MustParse(number)
	}
	return quota
}

// bed is a keeper between two API servers that are maps. Its caches are filled by hand.
type bed struct {
	*Keeper
	upper, lower *fake.Clientset
}

func newBed(t *testing.T, rules Rules, above, below []runtime.Object) *bed {
	t.Helper()
	b := &bed{upper: fake.NewClientset(above...), lower: fake.NewClientset(below...)}
	factory := informers.NewSharedInformerFactory(b.upper, 0)
	changes := factory.Core().V1().Namespaces()
	keeper, err := New(Setup{
		Name: "v", Identity: "me", LowerName: func(upper string) string { return "x-" + upper }, Rules: rules,
		Upper: b.upper, Lower: b.lower, Above: changes.Lister(), Changes: changes.Informer(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Keeper = keeper
	t.Cleanup(b.queue.ShutDown)
	b.lower.Resources = []*metav1.APIResourceList{{GroupVersion: "v1", APIResources: []metav1.APIResource{
		{Name: "pods", Namespaced: true, Verbs: metav1.Verbs{"create", "delete", "list"}},
		{Name: "secrets", Namespaced: true, Verbs: metav1.Verbs{"create", "delete", "list"}},
	}}}
	b.sees(t)
	return b
}

// sees puts what both API servers hold now into the caches.
func (b *bed) sees(t *testing.T) {
	t.Helper()
	for _, side := range []struct {
		client  *fake.Clientset
		replace func([]any, string) error
	}{{b.upper, b.Changes.GetStore().Replace}, {b.lower, b.below.GetStore().Replace}} {
		list, err := side.client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var objects []any
		for i := range list.Items {
			if n := &list.Items[i]; side.client == b.upper || n.Labels[keys.Upper] == "me" {
				objects = append(objects, n)
			}
		}
		if err := side.replace(objects, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// counts plays the quota controller of the lower cluster.
func (b *bed) counts(used set) {
	b.lower.PrependReactor("create", "resourcequotas", func(action clienttesting.Action) (bool, runtime.Object, error) {
		action.(clienttesting.CreateAction).GetObject().(*corev1.ResourceQuota).Status = quotaOf(used).Status
		return false, nil, nil
	})
}

// writes are the writes below, such as "patch namespaces".
func (b *bed) writes() []string {
	var made []string
	for _, action := range b.lower.Actions() {
		if !slices.Contains([]string{"get", "list", "watch"}, action.GetVerb()) {
			made = append(made, action.GetVerb()+" "+action.GetResource().Resource)
		}
	}
	b.lower.ClearActions()
	return made
}

func lowerNamespace(labels set) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x-ns", UID: "below", Labels: labels}}
}

func TestUse(t *testing.T) {
	t.Parallel()
	theirs := set{keys.UpperName: "other"}
	for name, c := range map[string]struct {
		present *corev1.Namespace
		rules   Rules
		writes  []string
		text    string // of the error, "" if pods may go there
	}{
		"none":                    {writes: []string{"create namespaces"}},
		"ours":                    {present: lowerNamespace(set{keys.Upper: "me"})},
		"foreign":                 {present: lowerNamespace(nil), text: "label it tessera.sh/open-to=me in the lower cluster or name it in openNamespaces"},
		"another upper's":         {present: lowerNamespace(set{keys.Upper: "you"}), text: "openNamespaces"},
		"open to us":              {present: lowerNamespace(set{keys.OpenTo: "me"})},
		"open to any":             {present: lowerNamespace(set{keys.OpenTo: "any"})},
		"open to another":         {present: lowerNamespace(set{keys.OpenTo: "you"}), text: "openNamespaces"},
		"open by name":            {present: lowerNamespace(nil), rules: Rules{Open: []string{"x-ns"}}},
		"open by *":               {present: lowerNamespace(nil), rules: Rules{Open: []string{"*"}}},
		"another is open by name": {present: lowerNamespace(nil), rules: Rules{Open: []string{"ns"}}, text: "openNamespaces"},
		"stands for another of ours": {
			present: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x-ns", Labels: set{keys.Upper: "me"}, Annotations: theirs}},
			text:    "x-ns stands for the upper namespace other",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var present []runtime.Object
			if c.present != nil {
				present = append(present, c.present)
			}
			b := newBed(t, c.rules, []runtime.Object{namespace(nil, nil)}, present)
			for range 2 {
				_, err := b.Use(t.Context(), "ns")
				if (err == nil) != (c.text == "") || (err != nil && (!errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.text))) {
					t.Fatalf("error %v, want %q", err, c.text)
				}
			}
			if got := b.writes(); !slices.Equal(got, c.writes) {
				t.Errorf("writes %v, want %v", got, c.writes)
			}
		})
	}
}

func TestTend(t *testing.T) {
	t.Parallel()
	b := newBed(t, Rules{}, []runtime.Object{namespace(set{enforce: "baseline"}, nil)}, []runtime.Object{lowerNamespace(set{keys.Upper: "you"})})
	look := func(want ...string) {
		t.Helper()
		b.sees(t)
		if _, err := b.reconcile(t.Context(), "x-ns"); err != nil {
			t.Fatal(err)
		}
		if got := b.writes(); !slices.Equal(got, want) {
			t.Fatalf("writes %v, want %v", got, want)
		}
	}
	look() // It is not ours.
	if err := b.lower.CoreV1().Namespaces().Delete(t.Context(), "x-ns", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Use(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	b.writes()
	look()
	if _, err := b.upper.CoreV1().Namespaces().Update(t.Context(), namespace(set{enforce: "restricted"}, nil), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	look("patch namespaces")
	got, err := b.lower.CoreV1().Namespaces().Get(t.Context(), "x-ns", metav1.GetOptions{})
	if err != nil || got.Labels[enforce] != "restricted" {
		t.Errorf("labels %v, %v", got.Labels, err)
	}
	look()
}

func TestLeave(t *testing.T) {
	t.Parallel()
	pod := func(identity string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x-ns", Name: "p", Labels: set{keys.Upper: identity}}}
	}
	marked := namespace(set{keys.Upper: "me"}, set{keys.UpperName: "ns"})
	marked.Name = "x-ns"
	ending := marked.DeepCopy()
	ending.DeletionTimestamp = &metav1.Time{}
	empty := set{"count/pods": "0", "count/secrets": "0"}
	quota, back := "create resourcequotas", "delete resourcequotas"
	for name, c := range map[string]struct {
		above  []runtime.Object
		below  []runtime.Object
		used   set
		behind bool // the cache does not show the upper namespace yet
		writes []string
	}{
		"empty":               {below: []runtime.Object{marked}, used: empty, writes: []string{quota, "delete namespaces"}},
		"in use":              {above: []runtime.Object{namespace(nil, nil)}, below: []runtime.Object{marked}, used: empty, writes: []string{"patch namespaces"}},
		"the cache is behind": {above: []runtime.Object{namespace(nil, nil)}, below: []runtime.Object{marked}, used: empty, behind: true},
		"a pod of ours":       {below: []runtime.Object{marked, pod("me")}, used: empty},
		"a pod of others":     {below: []runtime.Object{marked, pod("you")}, used: empty},
		"a Secret":            {below: []runtime.Object{marked}, used: set{"count/pods": "0", "count/secrets": "1"}, writes: []string{quota, back}},
		"not counted":         {below: []runtime.Object{marked}, writes: []string{quota, back}}, // The quota of this API server has no age.
		"going already":       {below: []runtime.Object{ending}, used: empty},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, Rules{}, c.above, c.below)
			b.counts(c.used)
			if c.behind {
				if err := b.Changes.GetStore().Replace(nil, ""); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := b.reconcile(t.Context(), "x-ns"); err != nil {
				t.Fatal(err)
			}
			if got := b.writes(); !slices.Equal(got, c.writes) {
				t.Errorf("writes %v, want %v", got, c.writes)
			}
		})
	}
}

// A namespace that stays is left in peace, and looked at at once when its upper one is back.
func TestStays(t *testing.T) {
	t.Parallel()
	marked := namespace(set{keys.Upper: "me"}, set{keys.UpperName: "ns"})
	marked.Name = "x-ns"
	b := newBed(t, Rules{}, nil, []runtime.Object{marked})
	b.counts(set{"count/pods": "0", "count/secrets": "2"})
	for attempt, want := range [][]string{{"create resourcequotas", "delete resourcequotas"}, nil} {
		if again, err := b.reconcile(t.Context(), "x-ns"); err != nil || again <= 0 || again > occupied {
			t.Fatal(attempt, again, err)
		}
		if got := b.writes(); !slices.Equal(got, want) {
			t.Fatalf("attempt %d: writes %v, want %v", attempt, got, want)
		}
	}
	if _, err := b.upper.CoreV1().Namespaces().Create(t.Context(), namespace(set{enforce: "baseline"}, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.sees(t)
	if _, err := b.reconcile(t.Context(), "x-ns"); err != nil || !slices.Equal(b.writes(), []string{"patch namespaces"}) {
		t.Errorf("it is not tended: %v", err)
	}
}
