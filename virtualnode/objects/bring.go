package objects

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/translate"
)

const (
	// knownWithin bounds how long a pod waits until it is known whether an object that it names is there.
	knownWithin = 5 * time.Second
	// atOnce is how many objects of one pod are brought at the same time.
	atOnce = 8
)

// Bring sees to it that what an upper pod names is below, as far as it is there above: a kubelet waits for what is not.
// left is what is not brought along at all, and why. The error is pair.ErrForeign for a name that is taken, ErrUnread for what the upper
// cluster does not show, or says what failed.
func (k *Keeper) Bring(ctx context.Context, upper *corev1.Pod) (left []error, err error) {
	needed := slices.DeleteFunc(namedAbove(upper, k.Target()), k.own)
	for _, key := range needed {
		k.Sources.Use(key, k) // All begin to be read before one is waited for.
	}
	results := make([]error, len(needed))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, key := range needed {
		group.Go(func() error {
			results[i] = k.bringOne(ctx, key)
			return nil
		})
	}
	_ = group.Wait() // Nobody returns one.
	for i, err := range results {
		switch {
		case errors.Is(err, translate.ErrAccountToken):
			left = append(left, fmt.Errorf("%s %s: %w", needed[i].Kind, needed[i].Name, err))
		case err != nil:
			return left, err
		}
	}
	return left, nil
}

// bringOne is Bring for one object.
func (k *Keeper) bringOne(ctx context.Context, key Key) error {
	if err := k.await(ctx, key); err != nil {
		k.Look(key) // If the pod has gone meanwhile, nobody needs it to be watched.
		return err
	}
	_, err := k.bring(ctx, key, true)
	return err
}

// await waits until it is known whether an object is there above, or that it cannot be read.
func (k *Keeper) await(ctx context.Context, key Key) error {
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	err := k.Sources.Await(ctx, key)
	if err != nil {
		return fmt.Errorf("reading %s %s above: %w", key.Kind, key.Name, errors.Join(ErrUnread, err))
	}
	return nil
}
