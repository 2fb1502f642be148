package standin

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// Follower lists and watches the nodes and pods of clusters with client-go's reflectors, counts and keeps nothing. It is the
// least that a client can do.
type Follower struct {
	Clusters    int
	Nodes, Pods atomic.Int64 // at the beginning
	Changes     atomic.Int64 // since
	synced      atomic.Int64 // reflectors that have everything
	reflectors  []*cache.Reflector
}

// NewFollower reads the kubeconfigs of a folder.
func NewFollower(dir string) (*Follower, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+Suffix))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("following: %s has no file NAME%s: %w", dir, Suffix, os.ErrNotExist)
	}
	f := &Follower{Clusters: len(files)}
	for _, file := range files {
		config, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			return nil, fmt.Errorf("following %s: %w", strings.TrimSuffix(filepath.Base(file), Suffix), err)
		}
		config.QPS = -1
		config.ContentType = runtime.ContentTypeProtobuf
		config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, fmt.Errorf("following: %w", err)
		}
		f.add(client, "nodes", &corev1.Node{}, &f.Nodes)
		f.add(client, "pods", &corev1.Pod{}, &f.Pods)
	}
	return f, nil
}

func (f *Follower) add(client kubernetes.Interface, resource string, example runtime.Object, first *atomic.Int64) {
	source := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), resource, metav1.NamespaceAll, fields.Everything())
	f.reflectors = append(f.reflectors, cache.NewReflector(
		cache.ToListWatcherWithWatchListSemantics(source, client), example, &counter{follower: f, first: first}, 0))
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, reflector := range f.reflectors {
		group.Go(func() { reflector.RunWithContext(ctx) })
	}
	group.Wait()
}

// Synced reports whether everything has been listed.
func (f *Follower) Synced() bool { return f.synced.Load() == int64(len(f.reflectors)) }

// counter is a store that counts.
type counter struct {
	follower *Follower
	first    *atomic.Int64
	synced   atomic.Bool
}

var _ cache.TransformingStore = (*counter)(nil)

// Add implements cache.ReflectorStore, as the other methods do.
func (c *counter) Add(any) error { c.follower.Changes.Add(1); return nil }

// Update counts a change.
func (c *counter) Update(any) error { c.follower.Changes.Add(1); return nil }

// Delete counts a change.
func (c *counter) Delete(any) error { c.follower.Changes.Add(1); return nil }

// Replace counts what there is.
func (c *counter) Replace(list []any, _ string) error {
	if !c.synced.Swap(true) {
		c.first.Add(int64(len(list)))
		c.follower.synced.Add(1)
	}
	return nil
}

// Resync does nothing.
func (c *counter) Resync() error { return nil }

// Transformer implements cache.TransformingStore: of an object its name alone is kept, and that only until all are listed.
func (c *counter) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		if o, ok := object.(metav1.Object); ok {
			return &metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}, nil
		}
		return object, nil
	}
}

// newFollowCommand returns `bench standin follow`.
func newFollowCommand() *cobra.Command {
	dir, length := "", time.Duration(0)
	command := &cobra.Command{
		Use:   "follow",
		Short: "List and watch the nodes and pods of a stand-in's clusters, and count",
		Long: `Lists and watches the nodes and pods of all clusters whose kubeconfigs are in the folder, with client-go's reflectors, and keeps
nothing: the least that a client can do. Prints when everything has been listed, then what arrives, and its own processor time.`,
		Example: "  go run ./bench standin follow --dir .standin --for 30s",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, length)
				defer cancel()
			}
			return follow(ctx, command.OutOrStdout(), dir)
		},
	}
	command.Flags().StringVar(&dir, "dir", dir, "folder with the files NAME.kubeconfig")
	command.Flags().DurationVar(&length, "for", length, "how long to follow; 0: until Ctrl-C")
	return command
}

func follow(ctx context.Context, out io.Writer, dir string) error {
	f, err := NewFollower(dir)
	if err != nil {
		return err
	}
	started := time.Now()
	go f.Run(ctx)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	synced, last, seconds := false, int64(0), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !synced {
			if synced = f.Synced(); synced {
				fmt.Fprintf(out, "follow: %d clusters, %d nodes and %d pods after %.1f s and %.1f s of processor time\n",
					f.Clusters, f.Nodes.Load(), f.Pods.Load(), time.Since(started).Seconds(), cpuSeconds())
			}
			continue
		}
		if seconds++; seconds%10 == 0 {
			now := f.Changes.Load()
			resident, _ := memory()
			fmt.Fprintf(out, "follow: %d events/s arrive; %.1f s of processor time so far, %d MiB resident\n",
				(now-last)/10, cpuSeconds(), resident>>20)
			last = now
		}
	}
}
