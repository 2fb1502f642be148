package lower

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Suffix is what the file of a cluster ends in; the rest of its name is the cluster's name.
const Suffix = ".kubeconfig"

// Folder watches a folder of files NAME.kubeconfig, one lower cluster each.
type Folder struct {
	Dir string
	Log *slog.Logger
	// Start runs a cluster until its context ends: when its file goes away or changes, or Run ends. A file that
	// changed starts its cluster anew after the old one has returned.
	Start func(ctx context.Context, name string, config *rest.Config)
	// Broken is told of a file that cannot be used; "" in text means it can be again. May be nil.
	Broken func(name, text string)
}

// running is a cluster that has been started.
type running struct {
	sum  [sha256.Size]byte
	stop context.CancelFunc
	done chan struct{}
}

// Run watches until ctx ends. A missing folder is an error; a broken file is logged and told to Broken, and the
// other clusters are not touched by it.
func (f *Folder) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching clusters folder: %w", err)
	}
	defer watcher.Close()
	if err := watcher.Add(f.Dir); err != nil {
		return fmt.Errorf("watching clusters folder %s: %w", f.Dir, err)
	}
	clusters := map[string]*running{}
	defer func() {
		for _, cluster := range clusters {
			cluster.stop()
			<-cluster.done
		}
	}()
	// A mounted Secret changes by a swap of links, which some file systems do not tell of: hence the ticker.
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		f.scan(ctx, clusters)
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
		case err := <-watcher.Errors:
			f.Log.Warn("Watching clusters folder failed, polling goes on", "folder", f.Dir, "err", err)
		case <-ticker.C:
		}
	}
}

// scan brings the running clusters in line with the files.
func (f *Folder) scan(ctx context.Context, clusters map[string]*running) {
	files, err := f.read()
	if err != nil {
		f.Log.Error("Reading clusters folder failed, clusters stay as they are", "folder", f.Dir, "err", err)
		return
	}
	for name, cluster := range clusters {
		if data, ok := files[name]; !ok || sha256.Sum256(data) != cluster.sum {
			f.Log.Info("Lower cluster leaves", "cluster", name, "changed", ok)
			cluster.stop()
			<-cluster.done
			delete(clusters, name)
		}
	}
	for name, data := range files {
		if clusters[name] == nil {
			if cluster := f.start(ctx, name, data); cluster != nil {
				clusters[name] = cluster
			}
		}
	}
}

func (f *Folder) read() (map[string][]byte, error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), Suffix)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(f.Dir, entry.Name()))
		if err != nil {
			f.broken(name, err)
			continue
		}
		files[name] = data
	}
	return files, nil
}

// start starts the cluster of a file. A file that cannot be used is tried again at each scan.
func (f *Folder) start(ctx context.Context, name string, data []byte) *running {
	config, err := Config(name, data)
	if err != nil {
		f.broken(name, err)
		return nil
	}
	if f.Broken != nil {
		f.Broken(name, "")
	}
	f.Log.Info("Lower cluster joins", "cluster", name, "server", config.Host)
	ctx, stop := context.WithCancel(ctx)
	cluster := &running{sum: sha256.Sum256(data), stop: stop, done: make(chan struct{})}
	go func() {
		defer close(cluster.done)
		f.Start(ctx, name, config)
	}()
	return cluster
}

func (f *Folder) broken(name string, err error) {
	f.Log.Error("Kubeconfig cannot be used, the cluster is left out until the file is mended", "cluster", name, "err", err)
	if f.Broken != nil {
		f.Broken(name, err.Error())
	}
}

// Config reads a kubeconfig. Its error names the cluster and what is wrong, and never shows a credential.
func Config(name string, data []byte) (*rest.Config, error) {
	if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
		return nil, fmt.Errorf("cluster name %q: %s", name, strings.Join(faults, "; "))
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s%s: %w", name, Suffix, err)
	}
	config.QPS, config.Burst = 500, 1000
	config.UserAgent = "tessera"
	config.ContentType, config.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	return config, nil
}
