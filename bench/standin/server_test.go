package standin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/standin"
	"github.com/tessera-k8s/tessera/bench/standin/play"
)

func serve(t *testing.T, o standin.Options) *standin.Server {
	t.Helper()
	s, err := standin.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func client(t *testing.T, dir, name string) kubernetes.Interface {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, name+standin.Suffix))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.ContentType = -1, k8sruntime.ContentTypeProtobuf
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Informers of every cluster come to hold what the stand-in has, and still do after pods have come and gone.
func TestInformersFollowChurn(t *testing.T) {
	t.Parallel()
	o := standin.Options{Clusters: 3, Nodes: 20, Pods: 200, Pending: 0.1, Seed: 5, Dir: t.TempDir(), Churn: 500, Heartbeat: time.Second}
	s := serve(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stores []cache.Store
	for _, name := range s.Names() {
		factory := informers.NewSharedInformerFactory(client(t, o.Dir, name), 0)
		for _, informer := range []cache.SharedIndexInformer{factory.Core().V1().Pods().Informer(), factory.Core().V1().Nodes().Informer()} {
			go informer.RunWithContext(ctx)
			if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
				t.Fatal("not synced")
			}
			stores = append(stores, informer.GetStore())
		}
	}
	lab.Eventually(t, time.Minute, func() error {
		if stats := s.Stats(); stats.Events < 500 || stats.Heartbeats < 100 {
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
	s.SetRates(play.Rates{})
	lab.Eventually(t, time.Minute, func() error { return same(s, stores, o.Dir, t) })
}

// same compares the newest versions in caches with what a list says.
func same(s *standin.Server, stores []cache.Store, dir string, t *testing.T) error {
	for i, name := range s.Names() {
		c := client(t, dir, name)
		pods, err := c.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if have := len(stores[2*i].List()); have != len(pods.Items) {
			return fmt.Errorf("%s: %d pods in the cache, %d listed", name, have, len(pods.Items))
		}
		for _, pod := range pods.Items {
			object, ok, _ := stores[2*i].GetByKey(pod.Namespace + "/" + pod.Name)
			if !ok || object.(*corev1.Pod).ResourceVersion != pod.ResourceVersion {
				return fmt.Errorf("%s: pod %s is not as it is listed", name, pod.Name)
			}
		}
	}
	return nil
}

func TestTokensAreTheirClusters(t *testing.T) {
	t.Parallel()
	o := standin.Options{Clusters: 2, Nodes: 1, Seed: 1, Dir: t.TempDir()}
	s := serve(t, o)
	one, err := clientcmd.BuildConfigFromFlags("", filepath.Join(o.Dir, s.Names()[0]+standin.Suffix))
	if err != nil {
		t.Fatal(err)
	}
	other, err := clientcmd.BuildConfigFromFlags("", filepath.Join(o.Dir, s.Names()[1]+standin.Suffix))
	if err != nil {
		t.Fatal(err)
	}
	one.BearerToken = other.BearerToken
	c, err := kubernetes.NewForConfig(one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Error(err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "mine.txt")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := standin.Start(ctx, standin.Options{Clusters: 2, Nodes: 1, Pods: 1, Seed: 1, Dir: dir, Prefix: "x-"})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, dir, "x-2")
	w, err := c.CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	s.Stop()
	for range w.ResultChan() { // It ends.
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("%v %v", files, err)
	}
}

func TestRatesAreSet(t *testing.T) {
	t.Parallel()
	s := serve(t, standin.Options{Clusters: 1, Nodes: 5, Pods: 50, Seed: 1, Dir: t.TempDir()})
	for query, want := range map[string]int{"churn=5&heartbeat=1m": 204, "churn=-1": 400, "churn=x": 400, "heartbeat=1": 400} {
		answer, err := http.Post(s.ControlURL()+"/rates?"+query, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %s", query, answer.Status)
		}
	}
	answer, err := http.Get(s.ControlURL() + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var stats standin.Stats
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	if stats.Churn != 5 || stats.Heartbeat != "1m0s" || stats.Nodes != 5 || stats.Pods != 50 || stats.CPUSeconds <= 0 {
		t.Errorf("%+v", stats)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*standin.Options){
		"clusters": func(o *standin.Options) { o.Clusters = 0 }, "nodes": func(o *standin.Options) { o.Nodes = -1 },
		"pods": func(o *standin.Options) { o.Pods = 1 << 30 }, "pending": func(o *standin.Options) { o.Pending = 1.5 },
		"churn": func(o *standin.Options) { o.Churn = -1 }, "dir": func(o *standin.Options) { o.Dir = "" },
	} {
		o := standin.DefaultOptions()
		o.Dir = t.TempDir()
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "--"+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A pod, with all that its cluster keeps of it, costs less than 100 bytes: 100,000 of them fit into 10 MB.
func TestBytesPerPod(t *testing.T) {
	const pods = 100_000
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	small := serve(t, standin.Options{Clusters: 1, Nodes: 10_000, Seed: 1, Dir: t.TempDir()})
	before := heap()
	large := serve(t, standin.Options{Clusters: 1, Nodes: 10_000, Pods: pods, Seed: 1, Dir: t.TempDir()})
	perPod := float64(heap()-before) / pods // With the second set of nodes, too.
	runtime.KeepAlive([]*standin.Server{small, large})
	t.Logf("%.0f bytes a pod", perPod)
	if perPod > 100 {
		t.Errorf("%.0f bytes a pod, more than 100", perPod)
	}
}
