package pair

import (
	"context"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Users are the virtual nodes that need an object below, as it says itself: those that lead to one lower cluster share what is there.
func Users(object metav1.Object) []string {
	text := object.GetAnnotations()[keys.UsedBy]
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// SetUsers has an object say so.
func SetUsers(object metav1.Object, users []string) {
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[keys.UsedBy] = strings.Join(users, ",")
	object.SetAnnotations(annotations)
}

// WithUser and WithoutUser are the names with one more, or one less.
func WithUser(users []string, name string) []string {
	all := append(slices.Clone(users), name)
	slices.Sort(all)
	return slices.Compact(all)
}

// WithoutUser is WithUser's opposite.
func WithoutUser(users []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(users), func(user string) bool { return user == name })
}

// copied is a Kubernetes object that can be copied.
type copied[T any] interface {
	metav1.Object
	DeepCopy() T
}

// Room is where objects of a type are in a namespace below: typed clients are rooms.
type Room[T any] interface {
	Update(ctx context.Context, object T, options metav1.UpdateOptions) (T, error)
	Delete(ctx context.Context, name string, options metav1.DeleteOptions) error
}

// Leave has an object below say that a virtual node does not need it any more, and deletes it, as it was seen, where no other does.
// gone reports that it is deleted.
func Leave[T copied[T]](ctx context.Context, room Room[T], present T, user string) (gone bool, err error) {
	users := Users(present)
	if present.GetDeletionTimestamp() != nil || !slices.Contains(users, user) {
		return false, nil
	}
	if left := WithoutUser(users, user); len(left) > 0 {
		next := present.DeepCopy()
		SetUsers(next, left)
		_, err := room.Update(ctx, next, metav1.UpdateOptions{})
		return false, err
	}
	return true, Remove(ctx, room, present)
}

// Remove deletes an object below as it was seen; one that has gone is no error.
func Remove[T copied[T]](ctx context.Context, room Room[T], present T) error {
	uid := present.GetUID()
	err := room.Delete(ctx, present.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
