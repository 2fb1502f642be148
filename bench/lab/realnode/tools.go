package realnode

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Prepare finds containerd, runc and the CNI plugins, or fetches them, and returns an error with the reason if this machine
// cannot have a real node, or none in a network namespace of its own if it is to be apart. root is the folder of the module.
func Prepare(ctx context.Context, root string, apart bool) error {
	if apart {
		return prepare(ctx, root, "networks")
	}
	return prepare(ctx, root)
}

func prepare(ctx context.Context, root string, more ...string) error {
	var why, output bytes.Buffer
	command := exec.CommandContext(ctx, "sh", append([]string{filepath.Join(root, "bench/lab/realnode/prepare.sh")}, more...)...)
	command.Stdout, command.Stderr = &why, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("preparing a real node: %w: %s", err, bytes.TrimSpace(output.Bytes()))
	}
	if why.Len() > 0 {
		return fmt.Errorf("preparing a real node: %s", bytes.TrimSpace(why.Bytes()))
	}
	return nil
}

// tools is the folder in which prepare.sh collects the programs of a node.
func tools() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = "/nowhere" // no home: prepare.sh has failed before
	}
	return filepath.Join(cache, "tessera", "real-node", "bin")
}
