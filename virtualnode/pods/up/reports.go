package up

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// Reports writes what the upper cluster is told of the pods of one virtual node. It keeps nothing itself.
type Reports struct {
	// Name is that of the virtual node.
	Name string
	// ShowAddresses reports the addresses of lower pods as those of the upper ones.
	ShowAddresses bool
	// Reachable reports whether the lower cluster answers, so that what its cache says is news.
	Reachable func() bool
	// OnLost says what becomes of pods whose cluster is out of reach. DefaultToleration is the time that the upper API server
	// has pods tolerate that if they say nothing.
	OnLost            OnLost
	DefaultToleration time.Duration
	Upper             corev1client.CoreV1Interface
	Events            record.EventRecorder
	// Count is told how every write of a status went, Wrote what it made of the upper pod.
	Count func(err error)
	Wrote func(before, after *corev1.Pod)
}

// Memory is what is to be remembered of one pod between its reports. Losing it costs a write.
type Memory struct {
	// scheduled is since when nothing but the lower pod's having a node waits to be told.
	scheduled time.Time
}
