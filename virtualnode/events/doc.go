// Package events carries what is said of lower pods up: events of a lower cluster about pods that came through a
// virtual node are shown on their upper pods, where `kubectl describe pod` finds them.
package events
