package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// bench is a keeper between two fake clusters, and the pods on both sides as a test wants them.
type bench struct {
	*testing.T
	*Keeper
	upper, lower *fake.Clientset
	above, below pods
}

// pods is a cache of pods.
type pods struct{ cache.Indexer }

func (pods) HasSynced() bool { return true }

func podsBy(index cache.IndexFunc) pods {
	return pods{cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{ByObject: index, pair.ByUpper: pair.IndexByUpper})}
}

func newBench(t *testing.T, name string, lower *fake.Clientset) *bench {
	t.Helper()
	target := translate.Target{VirtualNode: name, Identity: "us", Rules: translate.Rules{Allow: []translate.Power{translate.UpperToken}}}
	b := &bench{
		T: t, upper: fake.NewClientset(), lower: lower,
		above: podsBy(IndexAbove(func() translate.Target { return target })), below: podsBy(IndexBelow),
	}
	sources := NewSources(b.upper, slog.New(slog.DiscardHandler))
	var err error
	b.Keeper, err = New(Setup{
		Name: name, Target: func() translate.Target { return target }, Lower: lower, Sources: sources, Above: b.above, Below: b.below,
		Welcome: func(upper *corev1.Pod) bool { return upper.Labels[keys.Enabled] != "false" }, Barred: func() bool { return false },
		OwnNames: []string{"kube-root-ca.crt"}, Log: slog.New(slog.DiscardHandler),
	}, "us")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{}, 2)
	go func() { _ = sources.Run(ctx); ended <- struct{}{} }()
	go func() { b.Keeper.Run(ctx); ended <- struct{}{} }()
	t.Cleanup(func() { cancel(); <-ended; <-ended })
	return b
}

// names is a pod that names objects: kinds by name.
func names(pod string, objects map[string]string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: pod, UID: types.UID(pod)}}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		ref := corev1.LocalObjectReference{Name: name}
		from := corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref}}
		if objects[name] == translate.KindSecret {
			from = corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref}}
		}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, EnvFrom: []corev1.EnvFromSource{from}})
	}
	return p
}

// runs has a pod be bound to the virtual node and created below.
func (b *bench) runs(pod *corev1.Pod) {
	b.Helper()
	b.binds(pod)
	if _, err := b.Bring(b.Context(), pod); err != nil {
		b.Fatal(err)
	}
	b.tell(b.below.Add(below(pod)), pod)
}

// below is the lower pod of an upper one.
func below(pod *corev1.Pod) *corev1.Pod {
	lower := pod.DeepCopy()
	lower.UID = "below-" + pod.UID
	lower.Annotations = map[string]string{
		keys.UpperNamespace: pod.Namespace, keys.UpperName: pod.Name, keys.UpperUID: string(pod.UID),
	}
	return lower
}

// tell has the keeper look after a change of a pod.
func (b *bench) tell(err error, pod *corev1.Pod) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	b.LookAbove(pod)
	b.LookBelow(below(pod))
}

// binds has a pod be bound to the virtual node.
func (b *bench) binds(pod *corev1.Pod) { b.Helper(); b.tell(b.above.Add(pod), pod) }

// goes has it leave on both sides.
func (b *bench) goes(pod *corev1.Pod) {
	b.Helper()
	b.tell(b.below.Delete(below(pod)), pod)
	b.tell(b.above.Delete(pod), pod)
}

func secret(name string, uid types.UID, data string, kind corev1.SecretType) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: uid}, Type: kind, Data: map[string][]byte{"x": []byte(data)},
	}
}

func configMap(name, data string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)}, Data: map[string]string{"x": data}}
}

// puts writes a Secret above.
func (b *bench) puts(s *corev1.Secret) {
	b.Helper()
	secrets := b.upper.CoreV1().Secrets(s.Namespace)
	_ = secrets.Delete(b.Context(), s.Name, metav1.DeleteOptions{})
	if _, err := secrets.Create(b.Context(), s, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// eventually waits until below is what is wanted: "KIND NAME" and the content of the key x.
func (b *bench) eventually(want map[string]string) {
	b.Helper()
	var got map[string]string
	for range 200 {
		got = map[string]string{}
		maps, err := b.lower.CoreV1().ConfigMaps("shop").List(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		for i := range maps.Items {
			got["ConfigMap "+maps.Items[i].Name] = maps.Items[i].Data["x"]
		}
		secrets, err := b.lower.CoreV1().Secrets("shop").List(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		for i := range secrets.Items {
			got["Secret "+secrets.Items[i].Name] = string(secrets.Items[i].Data["x"])
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	b.Errorf("below are %v, want %v", got, want)
}

// watched waits until so many objects are watched above.
func (b *bench) watched(want int) {
	b.Helper()
	got := 0
	for range 200 {
		if got = b.Sources.Watched(); got == want {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	b.Errorf("%d objects are watched above, want %d", got, want)
}

// What pods name comes below, follows what is above, and goes with the last pod that needs it.
func TestFollows(t *testing.T) {
	t.Parallel()
	b := newBench(t, "v", fake.NewClientset())
	if _, err := b.upper.CoreV1().ConfigMaps("shop").Create(t.Context(), configMap("config", "1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.puts(secret("unused", "u", "no", ""))
	one := names("one", map[string]string{"config": translate.KindConfigMap, "late": translate.KindSecret, "kube-root-ca.crt": translate.KindConfigMap})
	two := names("two", map[string]string{"config": translate.KindConfigMap})
	b.runs(one)
	b.runs(two)
	b.eventually(map[string]string{"ConfigMap config": "1"})
	b.watched(2) // Those that are named.
	b.puts(secret("late", "a", "came later", ""))
	b.eventually(map[string]string{"ConfigMap config": "1", "Secret late": "came later"})
	if _, err := b.upper.CoreV1().ConfigMaps("shop").Update(t.Context(), configMap("config", "2"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually(map[string]string{"ConfigMap config": "2", "Secret late": "came later"})
	if err := b.upper.CoreV1().Secrets("shop").Delete(t.Context(), "late", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually(map[string]string{"ConfigMap config": "2"})
	b.goes(one)
	b.eventually(map[string]string{"ConfigMap config": "2"})
	b.goes(two)
	b.eventually(map[string]string{})
	b.watched(0)
}

// What cannot be changed is deleted and created: an immutable one that was made anew above, and one of another type.
func TestReplaces(t *testing.T) {
	t.Parallel()
	b := newBench(t, "v", fake.NewClientset())
	b.runs(names("pod", map[string]string{"s": translate.KindSecret}))
	first := secret("s", "a", "1", corev1.SecretTypeOpaque)
	first.Immutable = new(true)
	b.puts(first)
	b.eventually(map[string]string{"Secret s": "1"})
	b.puts(secret("s", "b", "2", corev1.SecretTypeOpaque))
	b.eventually(map[string]string{"Secret s": "2"})
	b.puts(secret("s", "c", "3", corev1.SecretTypeBasicAuth))
	b.eventually(map[string]string{"Secret s": "3"})
	below, err := b.lower.CoreV1().Secrets("shop").Get(t.Context(), "s", metav1.GetOptions{})
	if err != nil || below.Type != corev1.SecretTypeBasicAuth || below.Immutable != nil {
		t.Errorf("below is %v, %v", below, err)
	}
	b.puts(secret("s", "d", "4", corev1.SecretTypeServiceAccountToken))
	b.eventually(map[string]string{})
}

// What somebody else made below under the same name stays as it is, and who needs the name is told.
func TestForeign(t *testing.T) {
	t.Parallel()
	theirs := secret("s", "x", "theirs", "")
	other := configMap("c", "another upper cluster's")
	other.Labels = map[string]string{keys.Upper: "them"}
	b := newBench(t, "v", fake.NewClientset(theirs, other))
	pod := names("pod", map[string]string{"s": translate.KindSecret})
	b.binds(pod)
	b.puts(secret("s", "a", "ours", ""))
	if _, err := b.Bring(t.Context(), pod); !errors.Is(err, pair.ErrForeign) || !strings.Contains(err.Error(), "Secret s") {
		t.Errorf("got %v", err)
	}
	another := names("another", map[string]string{"c": translate.KindConfigMap})
	b.binds(another)
	if _, err := b.upper.CoreV1().ConfigMaps("shop").Create(t.Context(), configMap("c", "ours"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Bring(t.Context(), another); !errors.Is(err, pair.ErrForeign) {
		t.Errorf("got %v", err)
	}
	b.goes(pod)
	b.goes(another)
	b.eventually(map[string]string{"ConfigMap c": "another upper cluster's", "Secret s": "theirs"})
}

// Before a pod is created, what it names is there; what is missing above is nobody's fault, a token of an account is told.
func TestBring(t *testing.T) {
	t.Parallel()
	b := newBench(t, "v", fake.NewClientset())
	b.puts(secret("s", "a", "1", ""))
	b.puts(secret("token", "b", "1", corev1.SecretTypeServiceAccountToken))
	pod := names("pod", map[string]string{"s": translate.KindSecret, "token": translate.KindSecret, "missing": translate.KindConfigMap})
	if err := b.above.Add(pod); err != nil {
		t.Fatal(err)
	}
	left, err := b.Bring(t.Context(), pod)
	if err != nil || len(left) != 1 || !errors.Is(left[0], translate.ErrAccountToken) || !strings.Contains(left[0].Error(), "Secret token") {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := b.lower.CoreV1().Secrets("shop").Get(t.Context(), "s", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if left, err := b.Bring(t.Context(), names("plain", nil)); left != nil || err != nil {
		t.Errorf("a pod that names nothing: %v, %v", left, err)
	}
}

// What a pod names comes only if the pod does: not for one that may not go below, or is refused there. What a pod below needs that has
// no upper one any more is left alone: it may be an orphan, or a forgery that would like to have a Secret.
func TestWanted(t *testing.T) {
	t.Parallel()
	b := newBench(t, "v", fake.NewClientset())
	b.puts(secret("s", "a", "1", ""))
	b.puts(secret("coveted", "a", "1", ""))
	pod := names("pod", map[string]string{"s": translate.KindSecret})
	unwelcome := names("unwelcome", map[string]string{"s": translate.KindSecret})
	unwelcome.Labels = map[string]string{keys.Enabled: "false"}
	forged := below(names("forged", map[string]string{"coveted": translate.KindSecret}))
	b.tell(b.below.Add(forged), forged)
	forged = below(names("pod", map[string]string{"s": translate.KindSecret, "coveted": translate.KindSecret}))
	b.binds(unwelcome)
	b.tell(b.below.Add(below(unwelcome)), unwelcome)
	b.binds(pod) // It is refused below.
	<-time.After(3 * gather)
	b.eventually(map[string]string{})
	b.runs(pod)
	b.tell(b.below.Update(forged), forged)
	<-time.After(3 * gather)
	b.eventually(map[string]string{"Secret s": "1"})

	b.tell(b.above.Delete(pod), pod)
	b.puts(secret("s", "a", "changed", ""))
	<-time.After(3 * gather)
	b.eventually(map[string]string{"Secret s": "1"})
	b.tell(b.below.Delete(below(pod)), pod)
	b.tell(b.below.Delete(below(unwelcome)), unwelcome)
	b.eventually(map[string]string{})
}

// What is missing above and was not seen to go is not taken from pods that run: an upper cluster that was built anew gets its objects
// back in a while. It goes when that while is over.
func TestMissing(t *testing.T) {
	t.Parallel()
	lower := fake.NewClientset()
	first := newBench(t, "v", lower)
	pod := names("pod", map[string]string{"s": translate.KindSecret})
	first.puts(secret("s", "a", "1", ""))
	first.runs(pod)
	first.eventually(map[string]string{"Secret s": "1"})
	again := newBench(t, "v", lower) // Whose upper cluster has no such Secret.
	again.Absent = 2 * time.Second
	again.binds(pod)
	again.tell(again.below.Add(below(pod)), pod)
	<-time.After(time.Second)
	again.eventually(map[string]string{"Secret s": "1"})
	again.eventually(map[string]string{})
}

// Nobody waits for what cannot be read.
func TestUnread(t *testing.T) {
	t.Parallel()
	b := newBench(t, "v", fake.NewClientset())
	denied := apierrors.NewForbidden(corev1.Resource("secrets"), "s", errors.New("rbac"))
	b.upper.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, denied })
	b.upper.PrependWatchReactor("secrets", func(clienttesting.Action) (bool, watch.Interface, error) { return true, nil, denied })
	pod := names("pod", map[string]string{"s": translate.KindSecret})
	b.binds(pod)
	begin := time.Now()
	_, err := b.Bring(t.Context(), pod)
	if !errors.Is(err, ErrUnread) || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "Secret s") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > knownWithin/2 {
		t.Errorf("it took %s", took)
	}
}

// Two virtual nodes that lead to the same lower cluster share what their pods name: the last one takes it away.
func TestShared(t *testing.T) {
	t.Parallel()
	lower := fake.NewClientset()
	one, two := newBench(t, "one", lower), newBench(t, "two", lower)
	pod := names("pod", map[string]string{"s": translate.KindSecret})
	for _, b := range []*bench{one, two} {
		b.puts(secret("s", "a", "1", ""))
		b.runs(pod)
	}
	used := func(want string) {
		t.Helper()
		got := ""
		for range 200 {
			if s, err := lower.CoreV1().Secrets("shop").Get(t.Context(), "s", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				got = s.Annotations[keys.UsedBy]
			}
			if got == want {
				return
			}
			<-time.After(50 * time.Millisecond)
		}
		t.Errorf("it is used by %q, want %q", got, want)
	}
	used("one,two")
	one.goes(pod)
	used("two")
	two.goes(pod)
	two.eventually(map[string]string{})
}

// The sum tells contents apart that look alike when they are strung together.
func TestSum(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for i, object := range []metav1.Object{
		&corev1.ConfigMap{}, &corev1.ConfigMap{Immutable: new(true)}, &corev1.ConfigMap{Data: map[string]string{"a": "b"}},
		&corev1.ConfigMap{BinaryData: map[string][]byte{"a": []byte("b")}}, &corev1.ConfigMap{Data: map[string]string{"a": "", "b": ""}},
		&corev1.ConfigMap{Data: map[string]string{"a": "1 b"}}, &corev1.ConfigMap{Data: map[string]string{"a 1": "b"}},
		&corev1.Secret{Type: corev1.SecretTypeTLS}, &corev1.Secret{Type: corev1.SecretTypeOpaque},
	} {
		h := holding(object)
		if before, twice := seen[h.sum+h.kind]; twice {
			t.Errorf("%d has the sum of %d", i, before)
		}
		seen[h.sum+h.kind] = i
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	key := Key{translate.Reference{Kind: translate.KindSecret, Name: "password"}, "shop"}
	if got, err := parseKey(key.String()); err != nil || got != key {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"", "Secret/shop", "a/b/c/d"} {
		if got, err := parseKey(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

// A pod with tokens of its upper account has the upper cluster's CA beside them, under another name: each cluster has its own.
func TestRootCA(t *testing.T) {
	t.Parallel()
	b := newBench(t, "v", fake.NewClientset(configMap(translate.RootCA, "the lower one")))
	if _, err := b.upper.CoreV1().ConfigMaps("shop").Create(t.Context(), configMap(translate.RootCA, "the upper one"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := names("pod", nil)
	pod.Spec.ServiceAccountName = "web"
	pod.Spec.Volumes = []corev1.Volume{{Name: "kube-api-access-x", VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: translate.RootCA}}},
		}},
	}}}
	b.runs(pod)
	b.eventually(map[string]string{"ConfigMap " + translate.RootCA: "the lower one", "ConfigMap " + translate.RootCACopy: "the upper one"})
	if _, err := b.upper.CoreV1().ConfigMaps("shop").Update(t.Context(), configMap(translate.RootCA, "a new one"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually(map[string]string{"ConfigMap " + translate.RootCA: "the lower one", "ConfigMap " + translate.RootCACopy: "a new one"})
	b.goes(pod)
	b.eventually(map[string]string{"ConfigMap " + translate.RootCA: "the lower one"})
}
