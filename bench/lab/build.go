package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/tessera-k8s/tessera/bench/gobuild"
)

// KubernetesVersion is what every process of the control planes reports.
const KubernetesVersion = "v1.37.2"

const modulePath = "github.com/tessera-k8s/tessera"

// planesFlags set the version; without them everything reports v0.0.0-master.
const planesFlags = "-s -w -X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
	" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"

// buildPlanes gives the path of the control plane binary, building it if the cache has none for this go.sum, these
// sources and this Go.
func buildPlanes(ctx context.Context, root string, log io.Writer) (string, error) {
	key, err := planesKey(root)
	if err != nil {
		return "", fmt.Errorf("building the control planes: %w", err)
	}
	return cached(ctx, "planes", "planes", key, log, func(file string) error {
		return goBuild(ctx, root, log, "control planes", "-ldflags", planesFlags, "-o", file, "./bench/planes")
	})
}

// cached gives the path of the program NAME-KEY in a folder of the user's cache, building it if it is not there. The lock lets a
// second process wait for the first instead of building the same again.
func cached(ctx context.Context, folder, name, key string, log io.Writer, build func(file string) error) (string, error) {
	cache, held, err := cacheFolder(ctx, folder, log)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	defer held.release()
	binary := filepath.Join(cache, name+"-"+key)
	if _, err := os.Stat(binary); err == nil {
		now := time.Now()
		return binary, os.Chtimes(binary, now, now) // keeps it from being pruned
	}
	building := binary + ".building"
	if err := build(building); err != nil {
		return "", err
	}
	if err := os.Rename(building, binary); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	prune(filepath.Join(cache, name+"-*"), binary)
	return binary, nil
}

// buildProduct builds the product binary each time, which costs a second when nothing changed.
func buildProduct(ctx context.Context, root string, log io.Writer) (string, error) {
	sum := sha256.Sum256([]byte(root))
	cache, held, err := cacheFolder(ctx, "product-"+hex.EncodeToString(sum[:4]), log)
	if err != nil {
		return "", fmt.Errorf("building tessera: %w", err)
	}
	defer held.release()
	binary := filepath.Join(cache, "tessera")
	return binary, goBuild(ctx, root, log, "tessera", "-o", binary, ".")
}

// goBuild runs go build in root and tells how far it is.
func goBuild(ctx context.Context, root string, log io.Writer, what string, args ...string) error {
	return gobuild.Build{Root: root, What: what, Args: args, Log: log}.Run(ctx)
}

// planesKey is a hash over all that decides what the binary contains.
func planesKey(root string) (string, error) {
	files, err := filepath.Glob(filepath.Join(root, "bench/planes/*.go"))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, planesFlags)
	return hashFiles(h, append(files, filepath.Join(root, "go.sum"))...)
}

// hashFiles adds names and contents of files to a hash and gives what a name of a file can hold of it.
func hashFiles(h hash.Hash, files ...string) (string, error) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, filepath.Base(file), len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// cacheFolder gives the lab's folder in the user's cache and the lock of that name in it.
func cacheFolder(ctx context.Context, name string, log io.Writer) (string, *fileLock, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", nil, fmt.Errorf("finding the user's cache folder: %w", err)
	}
	dir := filepath.Join(base, "tessera", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("creating the cache folder: %w", diskError(dir, err))
	}
	for said := false; ; said = true {
		held, err := lock(filepath.Join(dir, "build.lock"))
		locked := (*lockedError)(nil)
		if !errors.As(err, &locked) {
			return dir, held, err
		}
		if !said {
			fmt.Fprintf(log, "lab: waiting for another build, %v\n", err)
		}
		select {
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// prune removes binaries that nobody has used for a week; each is some 100 MB.
func prune(pattern, keep string) {
	files, _ := filepath.Glob(pattern)
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && file != keep && time.Since(info.ModTime()) > 7*24*time.Hour {
			_ = os.Remove(file) // the next build tries again
		}
	}
}

// moduleRoot walks up from the working directory to the folder of this module's go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module "+modulePath+"\n") {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", fmt.Errorf("finding the module: no go.mod of %s here or above; run this inside the source tree", modulePath)
	}
}
