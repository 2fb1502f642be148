package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// diskFullHint says what to do when the disk is full.
func diskFullHint(dir string) string {
	return fmt.Sprintf("the disk under %s is full: free some room or choose another folder with --dir", dir)
}

// diskError adds that hint to an error that a full disk caused.
func diskError(dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s: %w", diskFullHint(dir), err)
	}
	return err
}

// writeFile writes a file of the lab, readable by its owner alone since most hold keys or tokens, creating its folder.
func (l *Lab) writeFile(rel string, data []byte) (string, error) {
	file := filepath.Join(l.dir, rel)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", fmt.Errorf("writing %s: %w", rel, diskError(l.dir, err))
	}
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return "", fmt.Errorf("writing %s: %w", rel, diskError(l.dir, err))
	}
	if err := os.Rename(file+".new", file); err != nil {
		return "", fmt.Errorf("writing %s: %w", rel, diskError(l.dir, err))
	}
	return file, nil
}

// ownFiles are what a lab creates in its folder, and all that a new lab removes from the folder of a stopped one.
var ownFiles = []string{
	recordFile, readyFile, "logs", "pki", "parts", "clusters", "bin", "state", "extender.url", schedulerFile, networksFile,
}

const (
	lockFile      = "lab.lock"
	readyFile     = "ready"
	backgroundLog = "up.log" // the output of `up --detach`
	schedulerFile = "kube-scheduler.yaml"
)

// prepareDir makes dir an empty lab folder. A folder that holds anything but an earlier lab is refused, so that a
// mistyped --dir destroys nothing.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating the lab folder: %w", diskError(dir, err))
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the lab folder: %w", err)
	}
	keep := map[string]bool{lockFile: true, backgroundLog: true} // in use already
	known := map[string]bool{lockFile: true, backgroundLog: true, "stages.yaml": true}
	for _, name := range ownFiles {
		known[name] = true
	}
	var remove []string
	for _, e := range names {
		if !known[e.Name()] && filepath.Ext(e.Name()) != ".kubeconfig" {
			return fmt.Errorf("preparing the lab folder: %s holds %q, which is not a lab's; give an empty or new folder with --dir", dir, e.Name())
		}
		if !keep[e.Name()] {
			remove = append(remove, e.Name())
		}
	}
	for _, name := range remove {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("clearing the lab folder: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
		return fmt.Errorf("creating the lab folder: %w", diskError(dir, err))
	}
	return nil
}
