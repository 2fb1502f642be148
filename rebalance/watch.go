package rebalance

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// watch keeps the upper pods that are bound and wait. The API server picks them out, so the many that run are
// neither sent nor stored.
type watch struct {
	informer cache.SharedIndexInformer
}

func newWatch(client kubernetes.Interface) *watch {
	waiting := fields.AndSelectors(
		fields.OneTermEqualSelector("status.phase", string(corev1.PodPending)),
		fields.OneTermNotEqualSelector("spec.nodeName", ""),
	).String()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTransform(onlyJudged),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.FieldSelector = waiting }))
	return &watch{informer: factory.Core().V1().Pods().Informer()}
}

// run watches until ctx ends. An API server that cannot be reached is tried again for ever.
func (w *watch) run(ctx context.Context) error {
	w.informer.RunWithContext(ctx)
	return nil
}

// wait returns once the pods are known, or false when ctx has ended.
func (w *watch) wait(ctx context.Context) bool {
	return cache.WaitForCacheSync(ctx.Done(), w.informer.HasSynced)
}

func (w *watch) ready() error {
	if !w.informer.HasSynced() {
		return errNotSynced
	}
	return nil
}

// pods returns the pods as they are now.
func (w *watch) pods() []Pod {
	var all []Pod
	for _, object := range w.informer.GetStore().List() {
		if pod, ok := newPod(object.(*corev1.Pod)); ok {
			all = append(all, pod)
		}
	}
	return all
}
