package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/tessera-k8s/tessera/internal/history"
)

// Suffix is what the file of a cluster ends in; the rest of its name is the cluster's name.
const Suffix = ".kubeconfig"

// Folder watches a folder of files NAME.kubeconfig, one lower cluster each.
type Folder struct {
	Dir string
	Log *slog.Logger
	// Start runs a cluster until its context ends: when its file goes away or changes, or Run ends. A file that
	// changed starts its cluster anew after the old one has returned; one with another token and nothing else does not: from then
	// on the clients made of config send that. A cluster that ends with history.ErrWentBack is started again.
	Start func(ctx context.Context, name string, config *rest.Config) error
	// Token is told how long the token of a cluster is good, when it starts and at every new one, also by a request that falls back to
	// the other one. It is safe for concurrent use. May be nil.
	Token func(name string, life Life)
	// Broken is told of a file that cannot be used; "" in text means that it can be again, or has gone. May be nil.
	Broken func(name, text string)

	faults map[string]string // what Broken was last told of each name

	mu      sync.Mutex
	offered map[string]string // renewed tokens, by cluster
	offers  chan struct{}
}

// Offer has the cluster of a name use a renewed token in place of that in its file if it ends later; "" has it use that in its file
// again. It is safe for concurrent use.
func (f *Folder) Offer(name, token string) {
	f.mu.Lock()
	if f.offered == nil {
		f.offered = map[string]string{}
	}
	f.offered[name] = token
	wake := f.wake()
	f.mu.Unlock()
	select {
	case wake <- struct{}{}:
	default: // It is to be looked at already.
	}
}

// wake is the channel that tells of offers. The caller holds the lock.
func (f *Folder) wake() chan struct{} {
	if f.offers == nil {
		f.offers = make(chan struct{}, 1)
	}
	return f.offers
}

// tokensOf is what to use for a cluster whose file holds inFile.
func (f *Folder) tokensOf(name, inFile string) tokens {
	f.mu.Lock()
	defer f.mu.Unlock()
	return choose(inFile, f.offered[name])
}

// running is a cluster that has been started.
type running struct {
	sum    [sha256.Size]byte
	config *rest.Config // as it was read
	tokens tokens       // what was chosen
	token  *token       // nil if it has another way to say who it is
	stop   context.CancelFunc
	done   chan struct{}
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
			cluster.end()
		}
	}()
	// A mounted Secret changes by a swap of links, which some file systems do not tell of: hence the ticker.
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	f.mu.Lock()
	offers := f.wake()
	f.mu.Unlock()
	for {
		f.scan(ctx, clusters)
		select {
		case <-ctx.Done():
			return nil
		case <-offers:
		case <-watcher.Events:
		case err := <-watcher.Errors:
			f.Log.Warn("Watching clusters folder failed, polling goes on", "folder", f.Dir, "err", err)
		case <-ticker.C:
		}
	}
}

// scan brings the running clusters in line with the files. A file that changed into one that cannot be used leaves
// its cluster running as it was.
func (f *Folder) scan(ctx context.Context, clusters map[string]*running) {
	files, err := f.read()
	if err != nil {
		f.Log.Error("Reading clusters folder failed, clusters stay as they are", "folder", f.Dir, "err", err)
		return
	}
	for name := range f.faults {
		if _, ok := files[name]; !ok {
			f.mended(name)
		}
	}
	for name, cluster := range clusters {
		if _, ok := files[name]; !ok {
			f.Log.Info("Lower cluster leaves", "cluster", name)
			cluster.end()
			delete(clusters, name)
		}
	}
	for name, file := range files {
		cluster := clusters[name]
		same := file.err == nil && cluster != nil && cluster.sum == sha256.Sum256(file.data)
		if same && f.tokensOf(name, cluster.config.BearerToken) == cluster.tokens {
			f.mended(name)
			continue
		}
		config, err := file.config(name)
		if err != nil {
			f.broken(name, err)
			continue
		}
		use := f.tokensOf(name, config.BearerToken)
		if cluster != nil && cluster.takes(config, use) {
			f.Log.Info("The cluster has a new token", "cluster", name, "renewed", use.other != "")
			cluster.sum = sha256.Sum256(file.data)
			f.tokenOf(name, use)
			f.mended(name)
			continue
		}
		if cluster != nil {
			f.Log.Info("Kubeconfig changed, the cluster starts anew", "cluster", name)
			cluster.end()
		}
		f.mended(name)
		clusters[name] = f.start(ctx, name, file.data, config, use)
	}
}

// file is what was read of a cluster's file.
type file struct {
	data []byte
	err  error
}

func (f file) config(name string) (*rest.Config, error) {
	if f.err != nil {
		return nil, f.err
	}
	return Config(name, f.data)
}

func (f *Folder) read() (map[string]file, error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return nil, err
	}
	files := map[string]file{}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), Suffix)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(f.Dir, entry.Name()))
		if !errors.Is(err, fs.ErrNotExist) {
			files[name] = file{data: data, err: err}
		}
	}
	return files, nil
}

func (f *Folder) start(ctx context.Context, name string, data []byte, config *rest.Config, use tokens) *running {
	f.Log.Info("Lower cluster joins", "cluster", name, "server", config.Host)
	f.tokenOf(name, use)
	ctx, stop := context.WithCancel(ctx)
	cluster := &running{
		sum: sha256.Sum256(data), config: rest.CopyConfig(config), tokens: use, stop: stop, done: make(chan struct{}),
	}
	if config.BearerToken != "" {
		cluster.token = &token{fell: func(now tokens) { f.tokenOf(name, now) }}
		cluster.token.use.Store(&use)
		config = rest.CopyConfig(config)
		config.BearerToken = ""
		config.Wrap(cluster.token.wrap)
	}
	go func() {
		defer close(cluster.done)
		for errors.Is(f.Start(ctx, name, rest.CopyConfig(config)), history.ErrWentBack) && ctx.Err() == nil {
			f.Log.Warn("The cluster starts anew", "cluster", name, "err", history.ErrWentBack)
		}
	}()
	return cluster
}

func (f *Folder) tokenOf(name string, use tokens) {
	if f.Token != nil {
		f.Token(name, lifeOf(use.first))
	}
}

// takes has a running cluster use other tokens if its configuration differs in that alone, and reports whether it does.
func (r *running) takes(config *rest.Config, use tokens) bool {
	same := rest.CopyConfig(config)
	same.BearerToken = r.config.BearerToken
	if r.token == nil || config.BearerToken == "" || !reflect.DeepEqual(same, r.config) {
		return false
	}
	r.config, r.tokens = rest.CopyConfig(config), use
	r.token.use.Store(&use)
	return true
}

// end stops a cluster and waits for it.
func (r *running) end() {
	r.stop()
	<-r.done
}

// broken tells of a fault, once as long as it stays the same.
func (f *Folder) broken(name string, err error) {
	if f.faults[name] == err.Error() {
		return
	}
	if f.faults == nil {
		f.faults = map[string]string{}
	}
	f.faults[name] = err.Error()
	f.Log.Error("Kubeconfig cannot be used, the cluster is left out until the file is mended", "cluster", name, "err", err)
	if f.Broken != nil {
		f.Broken(name, err.Error())
	}
}

func (f *Folder) mended(name string) {
	if _, ok := f.faults[name]; !ok {
		return
	}
	delete(f.faults, name)
	if f.Broken != nil {
		f.Broken(name, "")
	}
}

// Config reads a kubeconfig. Its error names the cluster and what is wrong, and never shows a credential.
func Config(name string, data []byte) (*rest.Config, error) {
	if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
		return nil, fmt.Errorf("cluster name %q: %s", name, strings.Join(faults, "; "))
	}
	kubeconfig, err := clientcmd.Load(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s%s: %w", name, Suffix, err)
	}
	if reachesOut(kubeconfig) { // Before anything is made of it, which would open those files.
		return nil, fmt.Errorf("reading %s%s: it runs a command or names other files, which whoever wrote it could misuse: "+
			"put token, certificates and CA into the kubeconfig itself", name, Suffix)
	}
	config, err := clientcmd.NewDefaultClientConfig(*kubeconfig, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading %s%s: %w", name, Suffix, err)
	}
	config.QPS, config.Burst = 500, 1000
	config.UserAgent = "tessera"
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return config, nil
}

// reachesOut reports whether the kubeconfig's current context runs a command or reads other files.
func reachesOut(kubeconfig *clientcmdapi.Config) bool {
	context := kubeconfig.Contexts[kubeconfig.CurrentContext]
	if context == nil {
		return false // There is nothing to use.
	}
	user, cluster := kubeconfig.AuthInfos[context.AuthInfo], kubeconfig.Clusters[context.Cluster]
	return user != nil && (user.Exec != nil || user.AuthProvider != nil || user.TokenFile+user.ClientCertificate+user.ClientKey != "") ||
		cluster != nil && cluster.CertificateAuthority != ""
}
