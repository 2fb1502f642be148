package decisions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/load/child"
	"github.com/tessera-k8s/tessera/bench/standin"
	"github.com/tessera-k8s/tessera/internal/ask"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// Size is what the stand-in plays: nodes and pods are those of each cluster.
type Size struct {
	Clusters     int  `json:"clusters"`
	Nodes        int  `json:"nodes"`
	Pods         int  `json:"pods"`
	UniqueLabels bool `json:"uniqueLabels,omitempty"` // each node has labels that no other has
}

func (s Size) String() string {
	return fmt.Sprintf("%d clusters of %d nodes and %d pods", s.Clusters, s.Nodes, s.Pods)
}

// Progress takes a line about work under way.
type Progress func(format string, args ...any)

// site is an upper cluster with an extender and a virtual node for each cluster that the stand-in plays.
type site struct {
	lab     *lab.Lab
	standIn *standin.Process
	upper   kubernetes.Interface
	echo    *child.Process
	echoURL string
	client  *http.Client
	names   []string // of the virtual nodes
	dir     string   // of the kubeconfigs

	ready   time.Duration // from the start of the extender until it has listed all
	listing int64         // bytes resident, the most until then

	profiles string // folder; "" takes none
}

// readyWithin bounds the listing of everything.
const readyWithin = 15 * time.Minute

func start(ctx context.Context, out io.Writer, size Size) (s *site, err error) {
	l, err := lab.Start(ctx, lab.Options{Parts: []string{lab.PartExtender}, Log: out})
	if err != nil {
		return nil, err
	}
	s = &site{lab: l, client: &http.Client{Timeout: 20 * time.Second}, dir: filepath.Join(l.Dir(), "clusters")}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	l.Process(lab.PartExtender).Stop() // It is built and configured, and starts anew once there is something to list.
	if s.upper, err = kubernetes.NewForConfig(l.Upper()); err != nil {
		return nil, fmt.Errorf("building client of the upper cluster: %w", err)
	}
	owner, err := kubernetes.NewForConfig(l.UpperAs(lab.PartVirtualNode)) // Nobody else may make virtual nodes.
	if err != nil {
		return nil, fmt.Errorf("building client of virtualnode: %w", err)
	}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := s.upper.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("creating the namespace: %w", err)
	}
	played := standin.DefaultOptions()
	played.Clusters, played.Nodes, played.Pods, played.Seed = size.Clusters, size.Nodes, size.Pods, 1
	played.UniqueLabels, played.Heartbeat, played.Dir = size.UniqueLabels, 0, s.dir
	if s.standIn, err = standin.StartProcess(ctx, "", played); err != nil {
		return nil, err
	}
	for i := range size.Clusters {
		cluster := fmt.Sprintf("standin-%d", i+1)
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: cluster, Labels: map[string]string{keys.Cluster: cluster}},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}}},
		}
		if _, err := owner.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return nil, fmt.Errorf("creating a virtual node: %w", err)
		}
		s.names = append(s.names, node.Name)
	}
	if s.echo, s.echoURL, err = child.Start(ctx, "load", "echo", "--plain"); err != nil {
		return nil, err
	}
	return s, s.list(ctx, size)
}

// list starts the extender and waits until it has everything.
func (s *site) list(ctx context.Context, size Size) error {
	started := time.Now()
	if err := s.extender().Restart(ctx); err != nil {
		return err
	}
	daemon := &ask.Extender{Daemon: &ask.Daemon{
		Name: "extender", URL: s.lab.PartURL(lab.PartExtender), Timeout: 10 * time.Second, UserAgent: "bench",
	}}
	for {
		s.listing = max(s.listing, s.extender().RSS())
		synced := 0
		if answer, err := daemon.Clusters(ctx); err == nil {
			for _, cluster := range answer.Value.Clusters {
				if cluster.Synced {
					synced++
				}
			}
		}
		if synced == size.Clusters {
			break
		}
		if time.Since(started) > readyWithin {
			return fmt.Errorf("%d of %d clusters are listed after %s", synced, size.Clusters, readyWithin)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	s.ready = time.Since(started)
	return nil
}

func (s *site) stop() {
	if s.echo != nil {
		s.echo.Kill()
	}
	if s.standIn != nil {
		s.standIn.Stop()
	}
	s.lab.Stop()
}

func (s *site) extender() *lab.Process { return s.lab.Process(lab.PartExtender) }

// question is the body of a filter request about a pod.
func (s *site) question(pod *corev1.Pod) ([]byte, error) {
	body, err := json.Marshal(extenderv1.ExtenderArgs{Pod: pod, NodeNames: &s.names})
	if err != nil {
		return nil, fmt.Errorf("writing a question: %w", err)
	}
	return body, nil
}

// filter asks, and returns how long it took until the answer was read and understood.
func (s *site) filter(ctx context.Context, body []byte) (*extenderv1.ExtenderFilterResult, time.Duration, error) {
	result := &extenderv1.ExtenderFilterResult{}
	took, err := s.post(ctx, s.lab.PartURL(lab.PartExtender)+"/scheduler/filter", body, result)
	if err == nil && result.Error != "" {
		err = fmt.Errorf("the extender says: %s", result.Error)
	}
	return result, took, err
}

func (s *site) prioritize(ctx context.Context, body []byte) (time.Duration, error) {
	list := extenderv1.HostPriorityList{}
	return s.post(ctx, s.lab.PartURL(lab.PartExtender)+"/scheduler/prioritize", body, &list)
}

func (s *site) askEcho(ctx context.Context, body []byte) (time.Duration, error) {
	return s.post(ctx, s.echoURL, body, &extenderv1.ExtenderArgs{})
}

func (s *site) post(ctx context.Context, url string, body []byte, into any) (time.Duration, error) {
	began := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("asking %s: %w", url, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("asking %s: %w", url, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, data)
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return 0, fmt.Errorf("asking %s: %w", url, err)
	}
	return time.Since(began), nil
}

// profile writes a profile of the extender, such as heap?gc=1 or profile?seconds=8, once it has been taken.
func (s *site) profile(ctx context.Context, name, what string) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s.profiles == "" {
			return
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.lab.PartURL(lab.PartExtender)+"/debug/pprof/"+what, nil)
		if err != nil {
			return
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return
		}
		defer response.Body.Close()
		if data, err := io.ReadAll(response.Body); err == nil {
			_ = os.WriteFile(filepath.Join(s.profiles, name+".pb.gz"), data, 0o644) //nolint:gosec // For everyone.
		}
	}()
	return func() { <-done }
}
