package lifecycles

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// foreign is the lower namespace that is not ours.
const foreign = "somebodys"

// taken is the name of a lower pod of somebody else's in our namespace.
const taken = "taken"

// planted is a pod or, without a change, a ConfigMap that belongs to others.
type planted struct {
	side      string
	client    kubernetes.Interface
	namespace string
	name      string
	change    func(*corev1.Pod) // nil for a ConfigMap
}

func (p planted) String() string {
	kind := "Pod"
	if p.change == nil {
		kind = "ConfigMap"
	}
	return fmt.Sprintf("%s %s %s/%s", p.side, kind, p.namespace, p.name)
}

func (p planted) create(ctx context.Context) (err error) {
	if p.change == nil {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: p.name}, Data: map[string]string{"key": "value"}}
		_, err = p.client.CoreV1().ConfigMaps(p.namespace).Create(ctx, object, metav1.CreateOptions{})
	} else {
		pod := plainPod(p.name)
		p.change(pod)
		_, err = p.client.CoreV1().Pods(p.namespace).Create(ctx, pod, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("planting %s: %w", p, err)
	}
	return nil
}

// version is the UID and the resource version, "" if it is no more.
func (p planted) version(ctx context.Context) (string, error) {
	var object metav1.Object
	var err error
	if p.change == nil {
		object, err = p.client.CoreV1().ConfigMaps(p.namespace).Get(ctx, p.name, metav1.GetOptions{})
	} else {
		object, err = p.client.CoreV1().Pods(p.namespace).Get(ctx, p.name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", p, err)
	}
	return fmt.Sprintf("%s at %s", object.GetUID(), object.GetResourceVersion()), nil
}

// others are the things of others beside ours: in a lower namespace of theirs, in ours below, and above.
func (d *driver) others() []planted {
	plain := func(*corev1.Pod) {}
	another := func(p *corev1.Pod) { // As another upper cluster would mark it, for an upper pod of a name that we have, too.
		p.Labels = map[string]string{keys.Upper: "another-upper-cluster", keys.VirtualNode: d.node}
		p.Annotations = map[string]string{keys.UpperNamespace: d.namespace, keys.UpperName: podName(0), keys.UpperUID: "another-uid"}
	}
	gated := func(p *corev1.Pod) {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "bench.tessera.sh/never"}}
	}
	below := func(namespace, name string, change func(*corev1.Pod)) planted {
		return planted{side: "lower", client: d.lower, namespace: namespace, name: name, change: change}
	}
	return []planted{
		below(foreign, "theirs", plain), below(foreign, podName(0), plain), below(foreign, "another-upper", another),
		below(foreign, "settings", nil),
		below(d.namespace, taken, plain), below(d.namespace, "another-upper", another), below(d.namespace, "settings", nil),
		{side: "upper", client: d.upper, namespace: d.namespace, name: "gated", change: gated},
		{side: "upper", client: d.upper, namespace: d.namespace, name: "settings"},
	}
}

// plant creates what belongs to others and notes its versions once it does not change by itself any more.
func (d *driver) plant(ctx context.Context) error {
	if err := makeNamespace(ctx, d.lower, foreign); err != nil {
		return err
	}
	for _, p := range d.others() {
		if err := p.create(ctx); err != nil {
			return err
		}
	}
	return d.until(ctx, func(ctx context.Context) error {
		before := d.planted
		var err error
		if d.planted, err = d.versions(ctx); err != nil {
			return err
		}
		if !maps.Equal(before, d.planted) {
			return fmt.Errorf("what was planted still changes")
		}
		return d.plantedRun(ctx)
	})
}

// plantedRun tells which planted lower pod does not run yet.
func (d *driver) plantedRun(ctx context.Context) error {
	for _, namespace := range []string{foreign, d.namespace} {
		pods, err := d.lower.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("listing pods: %w", err)
		}
		for i := range pods.Items {
			if pods.Items[i].Status.Phase != corev1.PodRunning {
				return fmt.Errorf("planted pod %s/%s is %s", namespace, pods.Items[i].Name, pods.Items[i].Status.Phase)
			}
		}
	}
	return nil
}

// versions returns the version of everything planted, and of the namespace of others.
func (d *driver) versions(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	for _, p := range d.others() {
		version, err := p.version(ctx)
		if err != nil {
			return nil, err
		}
		found[p.String()] = version
	}
	namespace, err := d.lower.CoreV1().Namespaces().Get(ctx, foreign, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading namespace %s: %w", foreign, err)
	}
	found["lower Namespace "+foreign] = fmt.Sprintf("%s at %s", namespace.UID, namespace.ResourceVersion)
	return found, nil
}
