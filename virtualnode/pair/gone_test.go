package pair

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// What was seen to go has gone; what is missing has to be so for a while, counted anew once it has been there.
func TestGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gone Gone
		var looked []string
		handler := gone.Handler(func(key string) { looked = append(looked, key) })
		object := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
		left := func(want time.Duration) {
			t.Helper()
			if got := gone.Left("a/b", time.Minute); got != want {
				t.Errorf("left is %s, want %s", got, want)
			}
		}
		left(time.Minute)
		<-time.After(20 * time.Second)
		left(40 * time.Second)
		handler.OnAdd(object, false)
		handler.OnDelete(cache.DeletedFinalStateUnknown{Key: "a/b", Obj: object})
		left(time.Minute)
		<-time.After(2 * time.Minute)
		left(0)
		handler.OnAdd(object, false)
		handler.OnDelete(object)
		left(0)
		handler.OnAdd(object, false)
		left(time.Minute)
		if len(looked) != 5 || looked[0] != "a/b" {
			t.Errorf("looked at %v", looked)
		}
	})
}
