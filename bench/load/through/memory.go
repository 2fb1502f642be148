package through

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// quiet is how long memory is left alone before it is read, so that what a start needs for a moment has been given back.
const quiet = 10 * time.Second

// Memory is what one virtualnode process takes with so many virtual nodes.
type Memory struct {
	VirtualNodes int `json:"virtualNodes"`
	// Pods is how many pods each virtual node has in the second figure.
	Pods              int   `json:"pods"`
	ResidentBytes     int64 `json:"residentBytes"`
	ResidentBytesPods int64 `json:"residentBytesPods"`
}

// MeasureMemory reads the resident memory of virtualnode with each number of virtual nodes, without pods and with so many
// pods each. The virtual nodes stand for one and the same lower cluster, under names of their own: each watches all of it,
// as it would watch a cluster of its own that has all those pods, so clusters of their own take less, not more.
func MeasureMemory(ctx context.Context, out io.Writer, virtualNodes []int, pods int, progress Progress) ([]Memory, error) {
	s, err := newSite(ctx, out, progress, nil)
	if err != nil {
		return nil, err
	}
	defer s.lab.Stop()
	var all []Memory
	for _, n := range virtualNodes {
		progress("%d virtual nodes", n)
		m, err := s.memory(ctx, n, pods)
		if err != nil {
			return nil, fmt.Errorf("memory with %d virtual nodes: %w", n, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func (s *site) memory(ctx context.Context, n, pods int) (Memory, error) {
	names, err := s.multiply(ctx, n)
	if err != nil {
		return Memory{}, err
	}
	m := Memory{VirtualNodes: n, Pods: pods}
	sleepUntil(ctx, time.Now().Add(quiet))
	m.ResidentBytes = s.virtualNode().RSS()
	for _, name := range names {
		if err := namespace(ctx, s.upper, s.podNamespace(n, name)); err != nil {
			return m, err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, name := range names {
		group.Go(func() error { return s.fill(groupCtx, s.podNamespace(n, name), name, pods) })
	}
	if err := group.Wait(); err != nil {
		return m, err
	}
	sleepUntil(ctx, time.Now().Add(quiet))
	m.ResidentBytesPods = s.virtualNode().RSS()
	for _, name := range names {
		if err := s.clear(ctx, s.podNamespace(n, name)); err != nil {
			return m, err
		}
	}
	return m, ctx.Err()
}

func (s *site) podNamespace(n int, name string) string { return fmt.Sprintf("memory-%d-%s", n, name) }

// multiply gives the lower cluster n names and starts virtualnode anew with them.
func (s *site) multiply(ctx context.Context, n int) ([]string, error) {
	first := s.lab.LowerName(1)
	file := func(name string) string { return filepath.Join(s.lab.Dir(), "clusters", name+".kubeconfig") }
	data, err := os.ReadFile(file(first))
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	names := []string{first}
	s.virtualNode().Stop()
	for len(names) < n {
		name := fmt.Sprintf("%s-%c", first, 'a'+rune(len(names)))
		if err := os.WriteFile(file(name), data, 0o600); err != nil {
			return nil, fmt.Errorf("writing kubeconfig: %w", err)
		}
		names = append(names, name)
	}
	if err := s.virtualNode().Restart(ctx); err != nil {
		return nil, err
	}
	return names, until(ctx, func(ctx context.Context) error {
		for _, name := range names {
			node, err := s.upper.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if c := node.Status.Conditions; len(c) == 0 || c[0].Status != corev1.ConditionTrue {
				return fmt.Errorf("virtual node %s is not Ready: %+v", name, c)
			}
		}
		return nil
	})
}

// fill creates pods bound to a virtual node and waits until they run.
func (s *site) fill(ctx context.Context, namespace, node string, pods int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched, err := observe(ctx, s, namespace)
	if err != nil {
		return err
	}
	if err := create(ctx, s.upper, namespace, node, pods); err != nil {
		return err
	}
	if got, _ := watched.wait(ctx, pods, runsAbove); got < pods {
		return fmt.Errorf("%d of %d pods run on %s", got, pods, node)
	}
	return nil
}
