package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/keys"
)

//go:embed stages.yaml
var stages []byte

// startWithin bounds Start once the binaries are built.
const startWithin = 3 * time.Minute

// Lab is a running lab. Its methods may be called from any goroutine.
type Lab struct {
	options  Options
	dir      string
	planes   string            // path of the control plane binary
	payload  string            // path of the program of the real nodes' image
	third    map[string]string // path of each program of bench/third
	holes    holesFunc
	pickPort func() (int, error)
	lock     *fileLock
	sup      *supervisor
	clusters []*cluster // [0] is the upper one
	partsCA  *authority
	networks *networks // nil: every cluster is on the machine's own network
	begin    time.Time // when the binaries were there

	ctx    context.Context // ends with the first crash or with Stop
	cancel context.CancelCauseFunc
	stop   sync.Once

	mu            sync.Mutex
	ports         map[string]ports
	schedulerPort int // the extender's port in the scheduler's configuration, 0 without an entry
}

// errStopped is the reason of an end that somebody asked for.
var errStopped = errors.New("the lab was stopped")

// Start builds the binaries, runs the clusters and parts and returns when all are ready. When it fails, or when ctx ends meanwhile,
// nothing of it runs any more. Stop must be called afterwards.
func Start(ctx context.Context, options Options) (*Lab, error) {
	return start(ctx, options, freePort)
}

func start(ctx context.Context, options Options, pickPort func() (int, error)) (*Lab, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	l := &Lab{options: options, pickPort: pickPort, ports: map[string]ports{}}
	var err error
	if l.holes, err = options.holes(); err != nil {
		return nil, err
	}
	if err := l.claimDir(); err != nil {
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.sup = newSupervisor(l.dir, l.cancel)
	if err := l.bringUp(ctx); err != nil {
		l.Stop()
		return nil, err
	}
	return l, nil
}

// claimDir makes or clears the folder and takes its lock.
func (l *Lab) claimDir() error {
	if l.options.Dir == "" {
		dir, err := os.MkdirTemp("", "tessera-lab-")
		if err != nil {
			return fmt.Errorf("creating the lab folder: %w", diskError(os.TempDir(), err))
		}
		l.dir = dir
	} else {
		dir, err := filepath.Abs(l.options.Dir)
		if err != nil {
			return fmt.Errorf("finding the lab folder: %w", err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("creating the lab folder: %w", diskError(dir, err))
		}
		l.dir = dir
	}
	held, err := lock(filepath.Join(l.dir, lockFile))
	locked := (*lockedError)(nil)
	if errors.As(err, &locked) {
		return fmt.Errorf("starting a lab in %s: a lab with pid %d runs there already; end it with: go run ./bench lab down --dir %s",
			l.dir, locked.pid, l.dir)
	}
	if err != nil {
		return fmt.Errorf("starting a lab in %s: %w", l.dir, diskError(l.dir, err))
	}
	l.lock = held
	if err := prepareDir(l.dir); err != nil {
		held.release()
		return err
	}
	return nil
}

// bringUp does the work of Start.
func (l *Lab) bringUp(ctx context.Context) error {
	if err := l.build(ctx); err != nil {
		return err
	}
	l.begin = time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("not ready after %s", startWithin))
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)() // a crash ends the start
	err := l.startAll(ctx)
	if crash := context.Cause(l.ctx); crash != nil {
		return crash
	}
	if err != nil {
		return err
	}
	l.printf("all ready after %.1f s", time.Since(l.begin).Seconds())
	_, err = l.writeFile(readyFile, []byte(time.Now().Format(time.RFC3339)+"\n"))
	return err
}

// startAll starts the clusters side by side, then the parts.
func (l *Lab) startAll(ctx context.Context) error {
	if err := l.makeClusters(); err != nil {
		return err
	}
	if err := l.writeShared(); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, c := range l.clusters {
		group.Go(func() error { return c.start(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := l.writeNetworks(); err != nil {
		return err
	}
	for _, part := range Parts {
		if !slices.Contains(l.options.Parts, part) {
			continue
		}
		begin := time.Now()
		if err := l.StartPart(ctx, part); err != nil {
			return err
		}
		if part == PartVirtualNode {
			if err := poll(ctx, "the virtual nodes", l.virtualNodesReady); err != nil {
				return err
			}
		}
		l.printf("%s ready after %.1f s", part, time.Since(begin).Seconds())
	}
	return nil
}

// virtualNodesReady tells as an error which lower cluster has no usable virtual node yet.
func (l *Lab) virtualNodesReady(ctx context.Context) error {
	for k := 1; k <= l.options.Lower; k++ {
		node, err := l.upper().client.CoreV1().Nodes().Get(ctx, l.LowerName(k), metav1.GetOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
		if i < 0 || node.Status.Conditions[i].Status != corev1.ConditionTrue {
			return fmt.Errorf("virtual node %s is not Ready: %+v", node.Name, node.Status.Conditions)
		}
		// A Node that is made has the one until the node lifecycle controller has seen its condition, and the other until virtualnode has
		// listed the lower cluster and holds its lease; no pod goes there before. One that stands for no node keeps the latter.
		empty := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == keys.Usable && c.Reason == keys.NoUsableNodes
		})
		for _, taint := range node.Spec.Taints {
			if taint.Key == corev1.TaintNodeNotReady || taint.Key == keys.UnusableTaint && !empty {
				return fmt.Errorf("virtual node %s still has the taint %s", node.Name, taint.Key)
			}
		}
	}
	return nil
}

// build makes the binaries and puts them under stable names into DIR/bin.
func (l *Lab) build(ctx context.Context) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if l.options.RealNodes > 0 {
		if err := l.prepareRealNodes(ctx, root); err != nil {
			return err
		}
	}
	if l.planes, err = buildPlanes(ctx, root, l.options.Log); err != nil {
		return err
	}
	if l.options.Networks != "" {
		if l.third, err = buildThird(ctx, l.options.Log); err != nil {
			return err
		}
	}
	bin := filepath.Join(l.dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return fmt.Errorf("creating %s: %w", bin, diskError(l.dir, err))
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %q kubectl \"$@\"\n", l.planes)
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(script), 0o700); err != nil {
		return fmt.Errorf("writing the kubectl of the lab: %w", diskError(l.dir, err))
	}
	if len(l.options.Parts) == 0 {
		return nil // StartPart builds the product if it is wanted after all
	}
	return l.buildProduct(ctx)
}

// buildProduct builds tessera and keeps it as DIR/bin/tessera, so that a later build does not change a running lab.
func (l *Lab) buildProduct(ctx context.Context) error {
	if _, err := os.Stat(l.Tessera()); err == nil {
		return nil
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	built, err := buildProduct(ctx, root, l.options.Log)
	if err != nil {
		return err
	}
	if os.Link(built, l.Tessera()) == nil {
		return nil
	}
	data, err := os.ReadFile(built) // another file system
	if err != nil {
		return fmt.Errorf("copying tessera: %w", err)
	}
	if err := os.WriteFile(l.Tessera(), data, 0o700); err != nil {
		return fmt.Errorf("copying tessera: %w", diskError(l.dir, err))
	}
	return nil
}

// writeShared writes what belongs to no single cluster.
func (l *Lab) writeShared() error {
	ca, err := newAuthority("parts-ca")
	if err != nil {
		return err
	}
	l.partsCA = ca
	scheduler, err := ca.client("kube-scheduler", "tessera:scheduler")
	if err != nil {
		return err
	}
	for rel, data := range map[string][]byte{
		"pki/parts/ca.crt": ca.pem, "pki/parts/scheduler.crt": scheduler.cert, "pki/parts/scheduler.key": scheduler.key, "stages.yaml": stages,
	} {
		if _, err := l.writeFile(filepath.FromSlash(rel), data); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(l.dir, "clusters"), 0o700); err != nil {
		return fmt.Errorf("creating the folder of the clusters: %w", diskError(l.dir, err))
	}
	if slices.Contains(l.options.Parts, PartExtender) { // the scheduler's configuration names the port before the extender runs
		if err := l.choosePorts(PartExtender, false); err != nil {
			return err
		}
		l.enterExtender()
	}
	return nil
}

func (l *Lab) makeClusters() error {
	upper := &cluster{lab: l, name: upperName}
	for range l.options.UpperNodes {
		upper.nodes = append(upper.nodes, defaultResources())
	}
	l.clusters = []*cluster{upper}
	if err := l.makeNetworks(); err != nil {
		return err
	}
	upper.join()
	for k := 1; k <= l.options.Lower; k++ {
		nodes, err := l.options.nodeShapes(k)
		if err != nil {
			return err
		}
		c := &cluster{lab: l, name: fmt.Sprintf("lower-%d", k), index: k, nodes: nodes}
		c.join()
		if k <= l.options.RealNodes {
			c.nodes = nil
			if err := c.planRealNode(); err != nil {
				return err
			}
		}
		l.clusters = append(l.clusters, c)
	}
	return nil
}

// Stop ends all processes and, if the lab chose its folder itself, removes it. It may be called more than once.
func (l *Lab) Stop() {
	l.stop.Do(func() {
		l.cancel(errStopped)
		l.sup.stop()
		l.releaseRealNodes()
		l.networks.close()
		if l.options.Dir == "" {
			_ = os.RemoveAll(l.dir) // a leftover in the temporary folder harms nobody
		}
		l.lock.release()
	})
}

// Done is closed when a process has crashed or the lab was stopped; Err tells which.
func (l *Lab) Done() <-chan struct{} { return l.ctx.Done() }

// Err is nil while the lab works, then the crash with its last log lines, or that the lab was stopped.
func (l *Lab) Err() error { return context.Cause(l.ctx) }

// Dir is the lab's folder.
func (l *Lab) Dir() string { return l.dir }

// Upper gives the admin's access to the upper cluster. The copy is the caller's.
func (l *Lab) Upper() *rest.Config { return rest.CopyConfig(l.upper().rest) }

// UpperAs gives access to the upper cluster as the account of a part, with its rights. The copy is the caller's.
func (l *Lab) UpperAs(part string) *rest.Config {
	config := l.Upper()
	config.Impersonate.UserName = "system:serviceaccount:" + installNamespace + ":tessera-" + part
	return config
}

// UpperKubeconfig is the path of the admin's kubeconfig.
func (l *Lab) UpperKubeconfig() string { return l.upper().adminKubeconfig() }

// Lower gives the admin's access to lower cluster k, counted from 1. The copy is the caller's.
func (l *Lab) Lower(k int) *rest.Config { return rest.CopyConfig(l.clusters[k].rest) }

// LowerKubeconfig is the path of the admin's kubeconfig of lower cluster k.
func (l *Lab) LowerKubeconfig(k int) string { return l.clusters[k].adminKubeconfig() }

// LowerName is the name of lower cluster k, which is also that of its virtual node.
func (l *Lab) LowerName(k int) string { return l.clusters[k].name }

// NodeName is the name of node i of lower cluster k, both counted from 1.
func (l *Lab) NodeName(k, i int) string { return l.clusters[k].nodeName(i) }

// ExtenderURL is the extender's plain listener, "" if no extender was ever started.
func (l *Lab) ExtenderURL() string {
	if l.partPorts(PartExtender).plain == 0 {
		return ""
	}
	return l.PartURL(PartExtender)
}

// Process gives a process by its name, such as "upper/apiserver", "lower-2/kube-scheduler" or "extender"; nil if there is none.
func (l *Lab) Process(name string) *Process { return l.sup.find(name) }

// Tessera is the path of the product binary; it is there once a part was started.
func (l *Lab) Tessera() string { return filepath.Join(l.dir, "bin", "tessera") }

// Planes is the path of the binary with the control planes, kubelet, kube-proxy and kubectl.
func (l *Lab) Planes() string { return l.planes }

// Kubectl runs kubectl against the upper cluster, or the one that a --kubeconfig in args names, and returns its output.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.planes, append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.UpperKubeconfig())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("running kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

func (l *Lab) upper() *cluster { return l.clusters[0] }

func (l *Lab) printf(format string, args ...any) {
	fmt.Fprintf(l.options.Log, "lab: "+format+"\n", args...)
}
