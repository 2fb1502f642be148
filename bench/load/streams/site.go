package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/lab/realnode"
	"github.com/tessera-k8s/tessera/bench/load/child"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// Progress takes a line about work under way.
type Progress func(format string, args ...any)

// The names of what is there on both sides, or above alone.
const (
	space      = "streams" // namespace
	streamed   = "streamed"
	relayNode  = "relay"
	relayedPod = "relayed" // stands above for the lower pod that the relay means

	containerLog  = "log"  // it has printed all lines and ended before the other one starts
	containerMain = "main" // it waits for commands
	folder        = "/memory"
)

// settled bounds every wait for things that take moments.
const settled = 2 * time.Minute

// The ways.
const (
	wayDirect = "direct"
	wayRelay  = "relay"
	wayVia    = "via"
)

// way is one of the ways to the lower pod.
type way struct {
	name   string
	config *rest.Config // of the API server that is asked
	client kubernetes.Interface
	pod    string // as that one calls it
}

// site is a lab with the pod and the ways to it.
type site struct {
	lab          *lab.Lab
	ways         []way
	relay        *child.Process
	relayStarted time.Duration // processor time that the relay took to start
	viaSpent     time.Duration // processor time that virtualnode took while it was the way
	logs         text          // what the container has printed
	data         []byte        // what is copied
	wrong        []string
}

// newSite starts a lab with a real node, the relay and the pod.
func newSite(ctx context.Context, out io.Writer) (*site, error) {
	l, err := lab.Start(ctx, lab.Options{
		Lower: 1, RealNodes: 1, Parts: []string{lab.PartVirtualNode}, BoundByHand: true, Log: out,
		Config: map[string]map[string]any{lab.PartVirtualNode: {"hint": "off"}},
	})
	if err != nil {
		return nil, err
	}
	s := &site{lab: l, logs: printed(logLines, lineBytes), data: random(copyBytes)}
	if err := s.prepare(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *site) stop() {
	if s.relay != nil {
		s.relay.Kill()
	}
	s.lab.Stop()
}

// prepare starts the relay, brings the pod down by virtualnode, and makes another one above that is bound to the relay's Node.
func (s *site) prepare(ctx context.Context) error {
	for _, w := range []way{
		{name: wayDirect, config: s.lab.Lower(1), pod: streamed}, {name: wayRelay, config: s.lab.Upper(), pod: relayedPod},
		{name: wayVia, config: s.lab.Upper(), pod: streamed},
	} {
		client, err := kubernetes.NewForConfig(w.config)
		if err != nil {
			return fmt.Errorf("building client: %w", err)
		}
		w.client = client
		s.ways = append(s.ways, w)
	}
	upper := s.ways[1].client.CoreV1()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space, Labels: map[string]string{keys.Enabled: "true"}}}
	if _, err := upper.Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating namespace: %w", err)
	}
	if err := until(ctx, func(ctx context.Context) error {
		_, err := upper.ServiceAccounts(space).Get(ctx, "default", metav1.GetOptions{})
		return err
	}); err != nil {
		return err
	}
	if err := s.startRelay(ctx, upper); err != nil {
		return err
	}
	for name, node := range map[string]string{streamed: s.lab.LowerName(1), relayedPod: relayNode} {
		if _, err := upper.Pods(space).Create(ctx, pod(name, node), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating pod: %w", err)
		}
	}
	return until(ctx, func(ctx context.Context) error {
		p, err := upper.Pods(space).Get(ctx, streamed, metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("the pod is %s: %+v %+v", p.Status.Phase, p.Status.Conditions, p.Status.InitContainerStatuses)
		}
		return err
	})
}

// startRelay runs the relay with the account of virtualnode below and a certificate that the upper API server takes for a kubelet's,
// and makes a Node that leads there. It declares the features of the virtual one: they decide about the protocol of streams.
func (s *site) startRelay(ctx context.Context, upper corev1client.CoreV1Interface) error {
	pki := func(name string) string { return filepath.Join(s.lab.Dir(), "pki", "upper", name) }
	process, line, err := child.Start(ctx, "load", "relay", "--namespace", space, "--pod", streamed,
		"--lower-kubeconfig", filepath.Join(s.lab.Dir(), "clusters", s.lab.LowerName(1)+".kubeconfig"),
		"--cert", pki("kubelet.crt"), "--key", pki("kubelet.key"), "--client-ca", pki("ca.crt"))
	if err != nil {
		return err
	}
	s.relay = process
	var at listening
	if err := json.Unmarshal([]byte(line), &at); err != nil {
		return fmt.Errorf("starting the relay: it said %q: %w", line, err)
	}
	s.relayStarted = at.Processor
	nodes := upper.Nodes()
	virtual, err := nodes.Get(ctx, s.lab.LowerName(1), metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the virtual node: %w", err)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: relayNode}, Status: corev1.NodeStatus{
		Addresses:        []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "127.0.0.1"}},
		DaemonEndpoints:  corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: at.Port}},
		DeclaredFeatures: virtual.Status.DeclaredFeatures,
	}}
	if _, err := nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating node: %w", err)
	}
	return nil
}

// pod is a pod as the upper scheduler leaves it: one container prints and ends, then another one waits, with a folder in memory, so
// that no disk is measured.
func pod(name, node string) *corev1.Pod {
	zero, no := resource.MustParse("0"), false
	container := func(name, step string) corev1.Container {
		return corev1.Container{Name: name, Image: realnode.Image, ImagePullPolicy: corev1.PullNever, Args: []string{step}}
	}
	main := container(containerMain, "wait")
	main.VolumeMounts = []corev1.VolumeMount{{Name: "memory", MountPath: folder}}
	main.Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi"), keys.PodResource: zero,
		},
		Limits: corev1.ResourceList{keys.PodResource: zero},
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, TerminationGracePeriodSeconds: new(int64), AutomountServiceAccountToken: &no,
			Tolerations:    []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			InitContainers: []corev1.Container{container(containerLog, fmt.Sprintf("lines=%d:%d", logLines, lineBytes))},
			Containers:     []corev1.Container{main},
			Volumes: []corev1.Volume{{Name: "memory", VolumeSource: corev1.VolumeSource{
				EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory},
			}}},
		},
	}
}

// until tries until there is no error; when that takes too long the last one comes back.
func until(ctx context.Context, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, settled, true, func(ctx context.Context) (bool, error) {
		last = try(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("not within %s: %w (last: %w)", settled, err, last)
	}
	return nil
}
