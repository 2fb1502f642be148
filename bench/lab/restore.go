package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Backup is a copy of a cluster's etcd.
type Backup struct {
	cluster *cluster
	dir     string
}

// BackUp copies the etcd of a cluster: 0 is the upper one, k the k-th lower one. It is stopped meanwhile, together with its API
// server.
func (l *Lab) BackUp(ctx context.Context, k int) (*Backup, error) {
	c := l.clusters[k]
	b := &Backup{cluster: c, dir: c.etcdDir() + ".backup"}
	err := c.whileDown(ctx, func() error { return copyDir(c.etcdDir(), b.dir) })
	if err != nil {
		return nil, fmt.Errorf("backing up %s: %w", c.name, err)
	}
	return b, nil
}

// Restore gives the cluster the state of the backup: what happened there since is forgotten, and resource versions go
// backwards, as after `etcdutl snapshot restore` without --bump-revision. The stock control plane is restarted with it, as the
// documentation of Kubernetes asks for; Tessera's parts run on.
func (b *Backup) Restore(ctx context.Context) error {
	err := b.cluster.whileDown(ctx, func() error { return copyDir(b.dir, b.cluster.etcdDir()) })
	if err != nil {
		return fmt.Errorf("restoring %s: %w", b.cluster.name, err)
	}
	return b.cluster.restartControllers(ctx)
}

// RebuildUpper replaces the upper cluster by an empty one at the same address, with new UIDs for everything. The parts that ran
// get accounts in it and are started again.
func (l *Lab) RebuildUpper(ctx context.Context) error {
	var parts []string
	for _, part := range Parts {
		if l.StopPart(part) == nil {
			parts = append(parts, part)
		}
	}
	err := l.upper().whileDown(ctx, func() error { return os.RemoveAll(l.upper().etcdDir()) })
	if err != nil {
		return fmt.Errorf("rebuilding the upper cluster: %w", err)
	}
	if err := l.upper().restartControllers(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{l.upper().createNodes, l.upper().applyManifests, l.upper().waitWorking} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, part := range parts {
		if err := l.StartPart(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) etcdDir() string { return filepath.Join(c.lab.dir, "state", c.name, "etcd") }

// whileDown does work between the end of the API server, etcd with it, and its new start.
func (c *cluster) whileDown(ctx context.Context, work func() error) error {
	server := c.lab.Process(c.name + "/apiserver")
	server.Kill()
	if err := work(); err != nil {
		return diskError(c.lab.dir, err)
	}
	return server.Restart(ctx)
}

// restartControllers restarts what watches the cluster and would wait for resource versions that are far away.
func (c *cluster) restartControllers(ctx context.Context) error {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kwok"} {
		if p := c.lab.Process(c.name + "/" + name); p != nil {
			if err := p.Restart(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyDir makes to a copy of the folder from, and nothing else.
func copyDir(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}
