package policies

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// cached is the lower policy of an upper one, nil if the cache has none.
func (k *Keeper) cached(key string) *networkingv1.NetworkPolicy {
	namespace, name, _ := strings.Cut(key, "/")
	object, ok, _ := k.below.GetStore().GetByKey(k.LowerName(namespace) + "/" + name) // A cache never fails.
	if !ok || pair.UpperKey(object.(*networkingv1.NetworkPolicy)) != key {
		return nil
	}
	return object.(*networkingv1.NetworkPolicy)
}

// around is whom policies may speak of, as things are.
func (k *Keeper) around() translate.Neighbours {
	around := translate.Neighbours{Namespaces: map[string]labels.Set{}}
	all, _ := k.Namespaces.List(labels.Everything()) // A cache never fails.
	for _, namespace := range all {
		if k.Choice.Takes(namespace) || k.Inhabited(namespace.Name) {
			around.Namespaces[namespace.Name] = namespace.Labels
		}
	}
	if k.Flat {
		around.Remote = func(namespaces []string, pods labels.Selector) []netip.Addr {
			return k.Hub.Remote(k.Cluster(), namespaces, pods)
		}
	}
	return around
}

// put makes the policy below mean what the upper one does.
func (k *Keeper) put(ctx context.Context, upper *networkingv1.NetworkPolicy) error {
	wanted, left := translate.LowerNetworkPolicy(upper, k.Target(), k.around())
	key := upper.Namespace + "/" + upper.Name
	if why := translate.PolicyText(left); k.note(key, why) {
		k.tell(upper, reasonNotTheSame, "Left out, as it cannot mean the same there: "+why)
	}
	policies := k.Lower.NetworkingV1().NetworkPolicies(wanted.Namespace)
	present := k.cached(key)
	if present == nil {
		if _, err := k.Room(ctx, upper.Namespace); err != nil {
			return err
		}
		pair.SetUsers(wanted, []string{k.Name})
		_, err := policies.Create(ctx, wanted, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return doing("creating", wanted, err)
		}
		if present, err = policies.Get(ctx, wanted.Name, metav1.GetOptions{}); err != nil {
			return doing("reading", wanted, err)
		}
		if present.Labels[keys.Upper] != k.identity || pair.UpperKey(present) != key {
			return doing("creating", wanted, pair.ErrForeign)
		}
	}
	next := present.DeepCopy()
	next.Labels, next.Annotations, next.Spec = wanted.Labels, wanted.Annotations, wanted.Spec
	pair.SetUsers(next, pair.WithUser(pair.Users(present), k.Name))
	if equality.Semantic.DeepEqual(next, present) {
		return nil
	}
	_, err := policies.Update(ctx, next, metav1.UpdateOptions{})
	return doing("updating", next, err)
}

// drop takes a policy away, or says on it that this virtual node does not need it, where others do.
func (k *Keeper) drop(ctx context.Context, key string) error {
	if present := k.cached(key); present != nil {
		return k.leave(ctx, present)
	}
	return nil
}

// clear takes away what an earlier configuration left below.
func (k *Keeper) clear(ctx context.Context) {
	pair.Clear(ctx, k.Log, "NetworkPolicies", func() bool { return k.Barred() || !k.Reachable() }, func(ctx context.Context) error {
		found, err := k.Lower.NetworkingV1().NetworkPolicies("").List(ctx, metav1.ListOptions{
			LabelSelector: labels.Set{keys.Upper: k.identity}.String(),
		})
		if err != nil {
			return fmt.Errorf("listing NetworkPolicies below: %w", err)
		}
		for i := range found.Items {
			if err := k.leave(ctx, &found.Items[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// leave is drop for a lower policy.
func (k *Keeper) leave(ctx context.Context, present *networkingv1.NetworkPolicy) error {
	_, err := pair.Leave(ctx, k.Lower.NetworkingV1().NetworkPolicies(present.Namespace), present, k.Name)
	return doing("taking away", present, err)
}

func doing(what string, policy *networkingv1.NetworkPolicy, err error) error {
	return pair.Doing(what, "NetworkPolicy", policy, err)
}
