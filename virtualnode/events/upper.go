package events

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// upperEvent is a lower event as it is shown on the upper pod.
//
// Its name depends on the pod and on the lower event alone, so that the same one is never shown twice, whoever writes it
// and however often. `kubectl describe` shows the component alone as where an event is from: hence the cluster stands there.
func upperEvent(event *corev1.Event, upper *corev1.Pod, cluster string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: upper.Namespace, Name: eventName(upper.Name, cluster+"/"+string(event.UID)),
			Labels: map[string]string{keys.Cluster: cluster},
		},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: upper.Namespace, Name: upper.Name, UID: upper.UID,
			FieldPath: event.InvolvedObject.FieldPath,
		},
		Type: event.Type, Reason: event.Reason, Message: event.Message, Action: event.Action,
		Source: corev1.EventSource{
			Component: cluster + "/" + cmp.Or(event.Source.Component, event.ReportingController), Host: event.Source.Host,
		},
		FirstTimestamp: event.FirstTimestamp, LastTimestamp: event.LastTimestamp, Count: event.Count,
		EventTime: event.EventTime, Series: event.Series,
		ReportingController: event.ReportingController, ReportingInstance: event.ReportingInstance,
	}
}

// eventName is the pod's name with a number made of what identifies the event, as short as a name has to be.
func eventName(pod, identity string) string {
	sum := fnv.New64a()
	sum.Write([]byte(identity))
	number := "." + strconv.FormatUint(sum.Sum64(), 16)
	return pod[:min(len(pod), validation.DNS1123SubdomainMaxLength-len(number))] + number
}

// update is what changes of an event that happens again.
type update struct {
	Message       string              `json:"message"`
	LastTimestamp metav1.Time         `json:"lastTimestamp"`
	Count         int32               `json:"count,omitempty"`
	Series        *corev1.EventSeries `json:"series,omitempty"`
}

// again is the merge patch that brings an event which is shown already up to date.
func again(event *corev1.Event) []byte {
	patch, _ := json.Marshal(update{ // These types marshal always.
		Message: event.Message, LastTimestamp: event.LastTimestamp, Count: event.Count, Series: event.Series,
	})
	return patch
}

// lastSeen is when an event happened last. Events of both APIs come along, each with times of its own.
func lastSeen(event *corev1.Event) time.Time {
	last := event.CreationTimestamp.Time
	times := []time.Time{event.LastTimestamp.Time, event.EventTime.Time}
	if event.Series != nil {
		times = append(times, event.Series.LastObservedTime.Time)
	}
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
