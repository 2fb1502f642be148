package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Backup is a copy of the upper cluster's etcd.
type Backup struct {
	lab *Lab
	dir string
}

// BackUpUpper copies the etcd of the upper cluster. It is stopped meanwhile, together with its API server.
func (l *Lab) BackUpUpper(ctx context.Context) (*Backup, error) {
	b := &Backup{lab: l, dir: l.upperEtcd() + ".backup"}
	err := l.whileUpperIsDown(ctx, func() error { return copyDir(l.upperEtcd(), b.dir) })
	if err != nil {
		return nil, fmt.Errorf("backing up the upper cluster: %w", err)
	}
	return b, nil
}

// Restore gives the upper cluster the state of the backup: what happened there since is forgotten, and resource versions go
// backwards, as after `etcdutl snapshot restore` without --bump-revision. The stock control plane is restarted with it, as the
// documentation of Kubernetes asks for; Tessera's parts run on.
func (b *Backup) Restore(ctx context.Context) error {
	err := b.lab.whileUpperIsDown(ctx, func() error { return copyDir(b.dir, b.lab.upperEtcd()) })
	if err != nil {
		return fmt.Errorf("restoring the upper cluster: %w", err)
	}
	return b.lab.restartUpperControllers(ctx)
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
	err := l.whileUpperIsDown(ctx, func() error { return os.RemoveAll(l.upperEtcd()) })
	if err != nil {
		return fmt.Errorf("rebuilding the upper cluster: %w", err)
	}
	if err := l.restartUpperControllers(ctx); err != nil {
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

func (l *Lab) upperEtcd() string { return filepath.Join(l.dir, "state", upperName, "etcd") }

// whileUpperIsDown does work between the end of the upper API server and its new start.
func (l *Lab) whileUpperIsDown(ctx context.Context, work func() error) error {
	server := l.Process(upperName + "/apiserver")
	server.Kill()
	if err := work(); err != nil {
		return diskError(l.dir, err)
	}
	return server.Restart(ctx)
}

// restartUpperControllers restarts what watches the upper cluster and would wait for resource versions that are far away.
func (l *Lab) restartUpperControllers(ctx context.Context) error {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kwok"} {
		if p := l.Process(upperName + "/" + name); p != nil {
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
