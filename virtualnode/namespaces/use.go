package namespaces

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// ErrForeign is a lower namespace that belongs to somebody else and is not open to our pods.
var ErrForeign = errors.New("the namespace below belongs to someone else")

// openFor is how long a foreign namespace is taken for open after it was found open.
const openFor = 10 * time.Second

// Used is a lower namespace that pods may go to.
type Used struct {
	UID  types.UID
	Ours bool // made by us, not just opened to us
}

// opened is a foreign namespace that was found open.
type opened struct {
	uid types.UID
	at  time.Time
}

// Use sees to it that the lower namespace of an upper one is there for pods; upper is the upper one's name. It makes
// the namespace where there is none. errors.Is(err, ErrForeign): pods may not go to the one that is there, and the
// text says what would let them. It is safe for concurrent use.
func (k *Keeper) Use(ctx context.Context, upper string) (Used, error) {
	name := k.LowerName(upper)
	if present := k.cached(name); present != nil {
		return k.mayUse(present, upper)
	}
	if uid := k.knownOpen(name); uid != "" {
		return Used{UID: uid}, nil
	}
	present, err := k.Lower.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return k.create(ctx, upper, name)
	}
	if err != nil {
		return Used{}, fmt.Errorf("reading namespace %s below: %w", name, err)
	}
	return k.mayUse(present, upper)
}

// mayUse returns no error if pods of the upper namespace may go to the lower one.
func (k *Keeper) mayUse(present *corev1.Namespace, upper string) (Used, error) {
	if k.ours(present) {
		if of := present.Annotations[keys.UpperName]; of != "" && of != upper {
			return Used{}, fmt.Errorf("%w: %s stands for the upper namespace %s; set namespacePrefix to keep the two apart",
				ErrForeign, present.Name, of)
		}
		return Used{UID: present.UID, Ours: true}, nil
	}
	to := present.Labels[keys.OpenTo]
	if to != k.Identity && to != "any" && !slices.Contains(k.Rules.Open, "*") && !slices.Contains(k.Rules.Open, present.Name) {
		return Used{}, fmt.Errorf("%w: %s has not been made by Tessera for this upper cluster; to let its pods in, "+
			"label it %s=%s in the lower cluster or name it in openNamespaces of virtualnode's configuration",
			ErrForeign, present.Name, keys.OpenTo, k.Identity)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open[present.Name] = opened{uid: present.UID, at: time.Now()}
	return Used{UID: present.UID}, nil
}

// knownOpen is the UID of a foreign namespace that was found open lately, "" for any other.
func (k *Keeper) knownOpen(name string) types.UID {
	k.mu.Lock()
	defer k.mu.Unlock()
	if known := k.open[name]; time.Since(known.at) < openFor {
		return known.uid
	}
	return ""
}

func (k *Keeper) ours(lower *corev1.Namespace) bool { return lower.Labels[keys.Upper] == k.Identity }

// create makes the lower namespace of an upper one.
func (k *Keeper) create(ctx context.Context, upper, name string) (Used, error) {
	above, err := k.Above.Get(upper)
	if apierrors.IsNotFound(err) { // The cache may be behind.
		above, err = k.Upper.CoreV1().Namespaces().Get(ctx, upper, metav1.GetOptions{})
	}
	if err != nil {
		return Used{}, fmt.Errorf("reading the upper namespace %s: %w", upper, err)
	}
	made, err := k.Lower.CoreV1().Namespaces().Create(ctx, below(above, nil, name, k.Identity, k.Rules), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		present, err := k.Lower.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return Used{}, fmt.Errorf("reading namespace %s below: %w", name, err)
		}
		return k.mayUse(present, upper)
	}
	if err != nil {
		return Used{}, fmt.Errorf("creating namespace %s below: %w", name, err)
	}
	k.Log.Info("Namespace is below", "namespace", name, "upper", upper)
	return Used{UID: made.UID, Ours: true}, nil
}

// tend brings changes of the upper namespace down.
func (k *Keeper) tend(ctx context.Context, upper, lower *corev1.Namespace) error {
	want := below(upper, lower, lower.Name, k.Identity, k.Rules)
	if same(want, lower) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": lower.ResourceVersion, "uid": lower.UID,
		"labels": change(lower.Labels, want.Labels), "annotations": change(lower.Annotations, want.Annotations),
	}})
	if err != nil {
		return fmt.Errorf("writing namespace %s below: %w", lower.Name, err)
	}
	_, err = k.Lower.CoreV1().Namespaces().Patch(ctx, lower.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing namespace %s below: %w", lower.Name, err)
	}
	return nil
}
