package standin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// forms are those in which client-go asks for objects.
var forms = map[string]string{"json": runtime.ContentTypeJSON, "protobuf": runtime.ContentTypeProtobuf}

// speaking is a client that asks for one form.
func (s *side) speaking(form string) kubernetes.Interface {
	s.t.Helper()
	config := rest.CopyConfig(s.config)
	config.ContentType, config.AcceptContentTypes = forms[form], forms[form]
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// compare has both sides leave the same trace.
func compare(t *testing.T, of func(*side) []string) {
	t.Helper()
	actual, played := sides(t)
	want, got := of(actual), of(played)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("real (-) and stand-in (+)\n%s", diff)
	}
}

// play makes and changes ConfigMaps, so that a watch has something to tell.
func (s *side) play() {
	s.t.Helper()
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	create := func(name, group string) {
		_, err := maps.Create(s.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"g": group}}}, metav1.CreateOptions{})
		must(err)
	}
	label := func(name, group string) {
		_, err := maps.Patch(s.t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"labels":{"g":"`+group+`"}}}`), metav1.PatchOptions{})
		must(err)
	}
	create("one", "1")
	create("two", "2")
	label("one", "2") // Leaves group 1.
	label("one", "2") // Changes nothing.
	label("two", "1") // Enters it.
	must(maps.Delete(s.t.Context(), "two", metav1.DeleteOptions{}))
	create("two", "1")
	create("end", "1")
}

// until reads a watch up to the event about an object of that name, or its end.
func until(t *testing.T, w watch.Interface, last string) (trace []string) {
	t.Helper()
	defer w.Stop()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case <-deadline:
			t.Errorf("nothing about %q in 20 s: %q", last, trace)
			return trace
		case event, ok := <-w.ResultChan():
			if !ok {
				return append(trace, "closed")
			}
			if status, ok := event.Object.(*metav1.Status); ok {
				return append(trace, fmt.Sprint(event.Type, " ", status.Code, " ", status.Reason, " ", status.Status))
			}
			object := event.Object.(metav1.Object)
			line := fmt.Sprint(event.Type, " ", object.GetName(), " ", object.GetLabels())
			if object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
				line += " end of the initial events"
			}
			if object.GetResourceVersion() == "" {
				line += " without a version"
			}
			if object.GetName() != "kube-root-ca.crt" {
				trace = append(trace, line)
			}
			if object.GetName() == last && event.Type != watch.Deleted {
				return trace
			}
		}
	}
}

// What watches tell of the same changes, in both forms, from each beginning, with and without selectors.
func TestWatches(t *testing.T) {
	yes, no, short := true, false, int64(1)
	for name, c := range map[string]struct {
		options metav1.ListOptions
		from    string // "now": the version before the changes; "later": there are some already
	}{
		"from a version":    {from: "now"},
		"labels":            {from: "now", options: metav1.ListOptions{LabelSelector: "g=1"}},
		"fields":            {from: "now", options: metav1.ListOptions{FieldSelector: "metadata.name=end"}},
		"from anywhere":     {from: "later"},
		"from zero":         {from: "later", options: metav1.ListOptions{ResourceVersion: "0"}},
		"initial events":    {from: "later", options: metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true}},
		"initial, selected": {from: "later", options: metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true, LabelSelector: "g=1"}},
		"initial, any":      {from: "later", options: metav1.ListOptions{SendInitialEvents: &yes, ResourceVersion: "0", ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true}},
		"no initial events": {from: "later", options: metav1.ListOptions{SendInitialEvents: &no, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}},
		"a short one":       {options: metav1.ListOptions{TimeoutSeconds: &short, LabelSelector: "g=none"}},
	} {
		for form := range forms {
			t.Run(name+" "+form, func(t *testing.T) {
				compare(t, func(s *side) []string {
					maps := s.speaking(form).CoreV1().ConfigMaps(s.namespace)
					if c.from == "later" {
						s.play()
						if _, err := maps.Patch(t.Context(), "end", types.MergePatchType, []byte(`{"metadata":{"name":"end"}}`), metav1.PatchOptions{}); err != nil {
							t.Fatal(err)
						}
					}
					options := c.options
					if c.from == "now" {
						list, err := maps.List(t.Context(), metav1.ListOptions{})
						if err != nil {
							t.Fatal(err)
						}
						options.ResourceVersion = list.ResourceVersion
					}
					w, err := maps.Watch(t.Context(), options)
					if err != nil {
						return []string{err.Error()}
					}
					switch c.from {
					case "now":
						s.play()
					case "later":
						if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "last", Labels: map[string]string{"g": "1"}}}, metav1.CreateOptions{}); err != nil {
							t.Fatal(err)
						}
						return until(t, w, "last")
					}
					return until(t, w, "end")
				})
			})
		}
	}
}

// The heads of watches, and their lines in JSON.
func TestWatchHeads(t *testing.T) {
	for name, accept := range map[string]string{
		"json": "application/json", "protobuf": "application/vnd.kubernetes.protobuf",
		"as client-go asks": "application/vnd.kubernetes.protobuf;stream=watch,application/json",
	} {
		t.Run(name, func(t *testing.T) {
			compare(t, func(s *side) []string {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				request, err := http.NewRequestWithContext(ctx, "GET", s.config.Host+"/api/v1/namespaces?watch=true&allowWatchBookmarks=true&sendInitialEvents=true"+
					"&resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3D"+s.namespace, nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Accept", accept)
				response, err := s.http.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				trace := []string{response.Status, response.Header.Get("Content-Type"), response.Header.Get("Cache-Control")}
				if name != "json" {
					return trace
				}
				lines := bufio.NewScanner(response.Body)
				for len(trace) < 5 && lines.Scan() {
					var event map[string]any
					if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
						t.Fatal(err)
					}
					text, _ := json.Marshal(s.normal(event)) // It was just read.
					trace = append(trace, string(text))
				}
				return trace
			})
		})
	}
}

// An informer as the parts have it: WatchList and protobuf. It comes to hold what there is and follows.
func TestInformers(t *testing.T) {
	for form := range forms {
		t.Run(form, func(t *testing.T) {
			compare(t, func(s *side) []string {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s.play()
				var mu sync.Mutex
				var told []string
				note := func(text string) func(any) {
					return func(object any) {
						mu.Lock()
						defer mu.Unlock()
						if o, ok := object.(metav1.Object); ok && o.GetName() != "kube-root-ca.crt" {
							told = append(told, text+" "+o.GetName())
						}
					}
				}
				factory := informers.NewSharedInformerFactoryWithOptions(s.speaking(form), 0, informers.WithNamespace(s.namespace))
				informer := factory.Core().V1().ConfigMaps().Informer()
				if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
					AddFunc: note("add"), DeleteFunc: note("delete"), UpdateFunc: func(_, object any) { note("update")(object) },
				}); err != nil {
					t.Fatal(err)
				}
				go informer.RunWithContext(ctx)
				if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
					t.Fatal("the informer does not sync")
				}
				wait := func(lines int) []string {
					var seen []string
					lab.Eventually(t, time.Minute, func() error {
						mu.Lock()
						defer mu.Unlock()
						if seen = slices.Clone(told); len(seen) < lines {
							return fmt.Errorf("%q", seen)
						}
						return nil
					})
					return seen
				}
				slices.Sort(wait(3)) // In the order of a map, at first.
				mu.Lock()
				slices.Sort(told)
				mu.Unlock()
				maps := s.client.CoreV1().ConfigMaps(s.namespace)
				if _, err := maps.Patch(ctx, "one", types.MergePatchType, []byte(`{"data":{"x":"y"}}`), metav1.PatchOptions{}); err != nil {
					t.Fatal(err)
				}
				if err := maps.Delete(ctx, "two", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				return wait(5)
			})
		})
	}
}

// steps reduces what a watch tells of a pod to what it went through.
func steps(t *testing.T, w watch.Interface) (trace []string) {
	t.Helper()
	defer w.Stop()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case <-deadline:
			t.Errorf("the pod does not come to its end: %q", trace)
			return trace
		case event, ok := <-w.ResultChan():
			if !ok {
				return append(trace, "closed")
			}
			pod := event.Object.(*corev1.Pod)
			line := string(pod.Status.Phase)
			if pod.Spec.NodeName != "" {
				line += " on a node"
			}
			for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady} {
				for _, c := range pod.Status.Conditions {
					if c.Type == kind {
						line += fmt.Sprintf(" %s=%s %s", c.Type, c.Status, c.Reason)
					}
				}
			}
			if pod.Status.PodIP != "" {
				line += " with an address"
			}
			if pod.DeletionTimestamp != nil {
				line += " ending"
			}
			if event.Type == watch.Deleted {
				return append(trace, "gone")
			}
			if len(trace) == 0 || trace[len(trace)-1] != line {
				trace = append(trace, line)
			}
		}
	}
}

// What pods go through, from their creation to their end.
func TestPodsLive(t *testing.T) {
	gates := []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		do   func(ctx context.Context, s *side, pod *corev1.Pod) error // once it is created
	}{
		"runs": {},
		"gated": {spec: corev1.PodSpec{SchedulingGates: gates}, do: func(ctx context.Context, s *side, pod *corev1.Pod) error {
			_, err := s.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType,
				[]byte(`{"spec":{"schedulingGates":[{"$patch":"delete","name":"example.com/wait"}]}}`), metav1.PatchOptions{})
			return err
		}},
		"asks for too much": {spec: corev1.PodSpec{Containers: []corev1.Container{container("1000")}}, do: func(ctx context.Context, s *side, pod *corev1.Pod) error {
			return s.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{})
		}},
		"selects no node": {spec: corev1.PodSpec{NodeSelector: map[string]string{"a": "b"}}, do: func(ctx context.Context, s *side, pod *corev1.Pod) error {
			return s.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			compare(t, func(s *side) []string {
				pods := s.client.CoreV1().Pods(s.namespace)
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: c.spec}
				if pod.Spec.Containers == nil {
					pod.Spec.Containers = []corev1.Container{container("10m")}
				}
				w, err := pods.Watch(t.Context(), metav1.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if pod, err = pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				scheduled := func(condition corev1.ConditionStatus) {
					lab.Eventually(t, time.Minute, func() error {
						now, err := pods.Get(t.Context(), "p", metav1.GetOptions{})
						if err != nil {
							return err
						}
						for _, c := range now.Status.Conditions {
							if c.Type == corev1.PodScheduled && c.Status == condition {
								return nil
							}
						}
						return errors.New("not scheduled yet")
					})
				}
				if c.do != nil {
					scheduled(corev1.ConditionFalse)
					if err := c.do(t.Context(), s, pod); err != nil {
						t.Fatal(err)
					}
				}
				if !strings.Contains(name, "no") && !strings.Contains(name, "too") {
					lab.Eventually(t, time.Minute, func() error {
						now, err := pods.Get(t.Context(), "p", metav1.GetOptions{})
						if err == nil && now.Status.Phase != corev1.PodRunning {
							err = errors.New("it does not run")
						}
						return err
					})
					if err := pods.Delete(t.Context(), "p", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				return steps(t, w)
			})
		})
	}
}

func container(cpu string) corev1.Container {
	return corev1.Container{Name: "c", Image: "pause:1", Resources: corev1.ResourceRequirements{Requests: amounts(cpu)}}
}

func amounts(cpu string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
}

// What watches tell of a pod that is deleted before it has a node, to the letter.
func TestPodIsDeletedAtOnce(t *testing.T) {
	compare(t, func(s *side) (trace []string) {
		pods := s.client.CoreV1().Pods(s.namespace)
		w, err := pods.Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{SchedulerName: "nobody", Containers: []corev1.Container{container("1")}}}
		if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := pods.Delete(t.Context(), "p", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		for event := range w.ResultChan() {
			pod := event.Object.(*corev1.Pod)
			grace := "none"
			if pod.DeletionGracePeriodSeconds != nil {
				grace = fmt.Sprint(*pod.DeletionGracePeriodSeconds)
			}
			trace = append(trace, fmt.Sprint(event.Type, " generation ", pod.Generation, " deleted ", pod.DeletionTimestamp != nil, " grace ", grace))
			if event.Type == watch.Deleted {
				break
			}
		}
		return trace
	})
}

// Whoever wants to go on from where too much has happened since hears of it as the first event. A real API server forgets
// what was before its start: hence the restart, after all other tests.
func TestTooOld(t *testing.T) {
	actual, played := sides(t)
	apiServer := shared.Get(t).Process("lower-1/apiserver")
	if err := apiServer.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for form := range forms {
		t.Run(form, func(t *testing.T) {
			of := func(s *side) (trace []string) {
				lab.Eventually(t, time.Minute, func() error {
					w, err := s.speaking(form).CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
					if err == nil {
						trace = until(t, w, "none")
					}
					return err
				})
				return trace
			}
			if diff := cmp.Diff(of(actual), of(played)); diff != "" {
				t.Errorf("real (-) and stand-in (+)\n%s", diff)
			}
		})
	}
}
