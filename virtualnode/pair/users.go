package pair

import (
	"slices"
	"strings"

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
