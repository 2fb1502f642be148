package lower

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// apiServer lists and watches nodes and pods over HTTP as a real one does, and can do to a client what a real one does on a
// bad day: end all watches, forget old versions, answer nothing but errors.
type apiServer struct {
	*httptest.Server
	gitVersion atomic.Value // string; unset is one that is not told

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]metav1.Object // by kind and namespace/name
	history  []change
	oldest   int           // watches from before are answered with 410
	away     bool          // requests are not answered
	broken   bool          // requests are answered with 503
	moved    chan struct{} // closed at every change
	sessions int           // counts the times that all watches were ended
	expired  int           // counts the answers with 410
}

// change is one event of the history.
type change struct {
	version int
	kind    string // nodes or pods
	event   watch.EventType
	object  []byte
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{objects: map[string]map[string]metav1.Object{"nodes": {}, "pods": {}}, version: 100, moved: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		if text := s.gitVersion.Load(); text != nil {
			_ = json.NewEncoder(w).Encode(map[string]string{"gitVersion": text.(string)})
			return
		}
		w.WriteHeader(http.StatusForbidden)
	})
	mux.HandleFunc("GET /api/v1/{kind}", s.serve)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *apiServer) config() *rest.Config { return &rest.Config{Host: s.URL, QPS: 1000, Burst: 1000} }

// set creates or replaces an object. It keeps a copy.
func (s *apiServer) set(object metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, key := keyOf(object)
	event := watch.Added
	if s.objects[kind][key] != nil {
		event = watch.Modified
	}
	s.version++
	object = object.(runtime.Object).DeepCopyObject().(metav1.Object)
	object.SetResourceVersion(strconv.Itoa(s.version))
	s.objects[kind][key] = object
	s.note(kind, event, object)
}

// remove deletes an object, if it is there.
func (s *apiServer) remove(object metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, key := keyOf(object)
	found := s.objects[kind][key]
	if found == nil {
		return
	}
	delete(s.objects[kind], key)
	s.version++
	last := found.(runtime.Object).DeepCopyObject().(metav1.Object)
	last.SetResourceVersion(strconv.Itoa(s.version))
	s.note(kind, watch.Deleted, last)
}

func (s *apiServer) note(kind string, event watch.EventType, object metav1.Object) {
	s.history = append(s.history, change{s.version, kind, event, encoded(object)})
	s.wakeAll()
}

func (s *apiServer) wakeAll() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// leave ends every watch and answers no request until comeBack.
func (s *apiServer) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = true
	s.sessions++
	s.wakeAll()
}

// fail ends every watch and answers 503 to every request until comeBack.
func (s *apiServer) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
	s.sessions++
	s.wakeAll()
}

// comeBack answers again. With forget, what was there before is compacted: who wants to go on from then gets 410 Gone.
func (s *apiServer) comeBack(forget bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.broken = false, false
	if forget {
		s.version++ // Nobody is at this version yet.
		s.oldest, s.history = s.version, nil
	}
	s.wakeAll()
}

// goBack has the versions begin anew from an earlier one, as after a restored backup.
func (s *apiServer) goBack(version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.history = version, nil
	s.sessions++
	s.wakeAll()
}

// present waits until requests are answered, and reports whether with what was asked for.
func (s *apiServer) present(r *http.Request) bool {
	for {
		s.mu.Lock()
		away, broken, moved := s.away, s.broken, s.moved
		s.mu.Unlock()
		if !away {
			return !broken
		}
		select {
		case <-r.Context().Done():
			return false
		case <-moved:
		}
	}
}

// gone is how many requests were answered with 410.
func (s *apiServer) gone() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expired
}

func keyOf(object metav1.Object) (kind, key string) {
	if _, ok := object.(*corev1.Node); ok {
		return "nodes", object.GetName()
	}
	return "pods", path.Join(object.GetNamespace(), object.GetName())
}

func encoded(object metav1.Object) []byte {
	switch o := object.(type) {
	case *corev1.Node:
		o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
	case *corev1.Pod:
		o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return text
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	kind, query := r.PathValue("kind"), r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case !s.present(r):
		http.Error(w, "{}", http.StatusServiceUnavailable)
	case kind != "nodes" && kind != "pods":
		http.Error(w, "{}", http.StatusNotFound)
	case query.Get("watch") == "":
		s.list(w, kind)
	default:
		from, _ := strconv.Atoi(query.Get("resourceVersion"))
		s.watch(w, r, kind, from, query.Get("sendInitialEvents") == "true")
	}
}

func (s *apiServer) list(w http.ResponseWriter, kind string) {
	s.mu.Lock()
	items := []json.RawMessage{}
	for _, object := range s.objects[kind] {
		items = append(items, encoded(object))
	}
	version := strconv.Itoa(s.version)
	s.mu.Unlock()
	names := map[string]string{"nodes": "NodeList", "pods": "PodList"}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": "v1", "kind": names[kind], "metadata": map[string]string{"resourceVersion": version}, "items": items,
	})
}

// watch streams what happens, beginning with all that there is if initial is set.
func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, kind string, from int, initial bool) {
	send := func(event watch.EventType, object []byte) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": event, "object": json.RawMessage(object)})
	}
	s.mu.Lock()
	session := s.sessions
	switch {
	case initial:
		from = s.version
		for _, object := range s.objects[kind] {
			send(watch.Added, encoded(object))
		}
		send(watch.Bookmark, s.bookmark(kind))
	case from < s.oldest:
		s.expired++
		status, _ := json.Marshal(apierrors.NewResourceExpired("too old resource version").Status())
		send(watch.Error, status)
		s.mu.Unlock()
		return
	}
	for {
		for _, c := range s.history {
			if c.kind == kind && c.version > from {
				send(c.event, c.object)
			}
		}
		from = max(from, s.version) // From a version that is yet to come nothing comes until then.
		moved := s.moved
		s.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-moved:
		}
		s.mu.Lock()
		if s.sessions != session {
			s.mu.Unlock()
			return
		}
	}
}

// bookmark ends the initial events.
func (s *apiServer) bookmark(kind string) []byte {
	meta := metav1.ObjectMeta{ResourceVersion: strconv.Itoa(s.version), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}
	if kind == "nodes" {
		return encoded(&corev1.Node{ObjectMeta: meta})
	}
	return encoded(&corev1.Pod{ObjectMeta: meta})
}
