// Package tombstone is what every user of client-go's informers has to get right: a deletion that the watch missed comes
// as a tombstone around the object as it was last known.
package tombstone

import "k8s.io/client-go/tools/cache"

// Unwrap returns the object that a deletion event is about, as it was last known. seen is false where the deletion itself was
// missed: the object was absent from a new list, and why is not known.
func Unwrap(object any) (last any, seen bool) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		return tombstone.Obj, false
	}
	return object, true
}

// Handler calls look with every T that something happens to: as it is now, or as it was last.
func Handler[T any](look func(T)) cache.ResourceEventHandler {
	take := func(object any) {
		if last, _ := Unwrap(object); last != nil {
			if found, ok := last.(T); ok {
				look(found)
			}
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: take, UpdateFunc: func(_, object any) { take(object) }, DeleteFunc: take}
}
