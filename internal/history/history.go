// Package history notices that the history of a cluster went back: its etcd was restored from a backup. Both the upper and the
// lower clusters are looked at in this way.
package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
)

// ErrWentBack is a cluster whose resource versions are smaller than they were.
//
// A watch that was open before goes on from the version that it had reached, and the API server passes on nothing until
// the new history has got there, silently. So everything has to be listed anew. (A backup restored with
// `etcdutl snapshot restore --bump-revision --mark-compacted` ends such watches by itself; not all are.)
var ErrWentBack = errors.New("the cluster has gone back in time: it was restored from a backup")

// Probe compares the newest resource version of a cluster with those that were there before. It is used by one goroutine.
type Probe struct {
	client kubernetes.Interface
	seen   func() []string
	newest string // of the whole cluster at the last look; "" before the first
}

// NewProbe returns a probe. seen are resource versions that watches have reached since the last look, which may be newer.
func NewProbe(client kubernetes.Interface, seen func() []string) *Probe {
	return &Probe{client: client, seen: seen}
}

// Look reads the newest resource version. The API server answers from its cache, which it first brings up to etcd's: so it has to have
// been restarted with its etcd, as Kubernetes asks for. It returns ErrWentBack if that is smaller
// than one before, and another error if it cannot be read. Versions that cannot be compared are not: an API server of another make.
func (p *Probe) Look(ctx context.Context) error {
	before := p.newest
	for _, version := range p.seen() {
		if order, err := resourceversion.CompareResourceVersion(version, cmp.Or(before, "1")); err == nil && order > 0 {
			before = version
		}
	}
	pods, err := p.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("reading the newest resource version: %w", err)
	}
	order, err := resourceversion.CompareResourceVersion(pods.ResourceVersion, before)
	if err == nil && order < 0 {
		return ErrWentBack
	}
	p.newest = pods.ResourceVersion
	return nil
}
