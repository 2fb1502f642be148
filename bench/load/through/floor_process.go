package through

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/load/child"
	"github.com/tessera-k8s/tessera/internal/registry"
	"github.com/tessera-k8s/tessera/internal/serve"
)

// floorNode is the node that the floor program stands for.
const floorNode = "floor"

// NewFloorCommand returns the command that runs the floor program as a process of its own, as virtualnode is one, with the
// clients that virtualnode has.
func NewFloorCommand() *cobra.Command {
	var upperFile, lowerFile, node string
	var hints []string
	command := &cobra.Command{
		Use:    "floor",
		Short:  "Make only the writes that any virtual node must make (run by the load virtualnode)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := serve.Context()
			defer stop()
			above, err := serve.UpperClient("floor", upperFile)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(lowerFile)
			if err != nil {
				return fmt.Errorf("reading kubeconfig: %w", err)
			}
			config, err := registry.Config("floor", data)
			if err != nil {
				return err
			}
			below, err := kubernetes.NewForConfig(config)
			if err != nil {
				return fmt.Errorf("building client: %w", err)
			}
			return Floor(ctx, above, below, node, hints, func() { fmt.Fprintln(command.OutOrStdout(), "watching") })
		},
	}
	command.Flags().StringVar(&upperFile, "upper-kubeconfig", "", "kubeconfig of the upper cluster")
	command.Flags().StringVar(&lowerFile, "lower-kubeconfig", "", "kubeconfig of the lower cluster")
	command.Flags().StringSliceVar(&hints, "hints", nil, "lower nodes that pods are nominated for in turn; none: no pod is nominated")
	command.Flags().StringVar(&node, "node", floorNode, "node whose pods are run below")
	return command
}

// startFloor runs the floor program with the accounts of virtualnode and returns once it watches.
func (s *site) startFloor(ctx context.Context, hints []string) (*child.Process, error) {
	process, _, err := child.Start(ctx, "load", "floor", "--node", floorNode, "--hints", strings.Join(hints, ","),
		"--upper-kubeconfig", filepath.Join(s.lab.Dir(), "parts", lab.PartVirtualNode+".kubeconfig"),
		"--lower-kubeconfig", filepath.Join(s.lab.Dir(), "clusters", s.lab.LowerName(1)+".kubeconfig"))
	return process, err
}

// floor sends n pods through the floor program at once, each with a hint where there are any. virtualnode does not run meanwhile.
func (s *site) floor(ctx context.Context, way, name string, hints []string, n int) (Run, error) {
	s.virtualNode().Stop()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: floorNode}} // Else its pods are collected.
	if _, err := s.upper.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return Run{}, fmt.Errorf("creating node: %w", err)
	}
	for _, c := range s.both() {
		if err := namespace(ctx, c, name); err != nil {
			return Run{}, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	process, err := s.startFloor(ctx, hints)
	if err != nil {
		return Run{}, err
	}
	defer process.Kill() // Unless it has ended as asked below.
	watched, err := s.warm(ctx, name, floorNode)
	if err != nil {
		return Run{}, err
	}
	return s.burst(ctx, watched, name, floorNode, n, func() map[string]time.Duration {
		return map[string]time.Duration{way: process.End()}
	})
}
