package through

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
)

func (s *site) virtualNode() *lab.Process { return s.lab.Process(lab.PartVirtualNode) }

// prepareVia makes a namespace, sends one pod through virtualnode, so that everything is there that a first pod brings
// about, and then watches the namespace.
func (s *site) prepareVia(ctx context.Context, name string) (*observer, error) {
	if err := namespace(ctx, s.upper, name); err != nil {
		return nil, err
	}
	return s.warm(ctx, name, s.lab.LowerName(1))
}

// warm sends one pod through a virtual node, takes it away again and watches from then on.
func (s *site) warm(ctx context.Context, name, node string) (*observer, error) {
	const first = "first"
	if _, err := s.upper.CoreV1().Pods(name).Create(ctx, pod(name, first, node), metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("creating pod: %w", err)
	}
	if err := until(ctx, func(ctx context.Context) error {
		p, err := s.upper.CoreV1().Pods(name).Get(ctx, first, metav1.GetOptions{})
		if err == nil && p.Status.Phase != "Running" {
			err = fmt.Errorf("the first pod through %s is %s: %v", node, p.Status.Phase, p.Status.Conditions)
		}
		return err
	}); err != nil {
		return nil, err
	}
	if err := s.clear(ctx, name); err != nil {
		return nil, err
	}
	return observe(ctx, s, name)
}

// via sends n pods through virtualnode at once, told of hints as mode says.
func (s *site) via(ctx context.Context, name, mode string, n int) (Run, error) {
	if err := s.lab.Reconfigure(ctx, lab.PartVirtualNode, map[string]any{"hint": mode}); err != nil {
		return Run{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched, err := s.prepareVia(ctx, name)
	if err != nil {
		return Run{}, err
	}
	return s.burst(ctx, watched, name, s.lab.LowerName(1), n, nil)
}

// direct creates n pods straight in the lower cluster at once. virtualnode does not run meanwhile.
func (s *site) direct(ctx context.Context, name string, n int) (Run, error) {
	s.virtualNode().Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, c := range s.both() {
		if err := namespace(ctx, c, name); err != nil {
			return Run{}, err
		}
	}
	watched, err := observe(ctx, s, name)
	if err != nil {
		return Run{}, err
	}
	return s.burst(ctx, watched, name, "", n, nil)
}
