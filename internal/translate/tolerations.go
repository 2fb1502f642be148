package translate

import (
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Tolerations are those of an upper pod, with a note of which ones Tessera wrote. They speak of the virtual node: LowerPod leaves
// them out, so that the defaults of the lower cluster hold for the nodes there. Changes are made to a copy.
type Tolerations struct {
	All  []corev1.Toleration
	ours []string // keys of taints
}

// TolerationsOf reads them from a pod.
func TolerationsOf(pod *corev1.Pod) Tolerations {
	t := Tolerations{All: pod.Spec.Tolerations}
	if note := pod.Annotations[keys.Tolerations]; note != "" {
		t.ours = strings.Split(note, ",")
	}
	return t
}

// Write puts them into a pod.
func (t Tolerations) Write(pod *corev1.Pod) {
	pod.Spec.Tolerations = t.All
	if len(t.ours) == 0 {
		return
	}
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, keys.Tolerations, t.Note())
}

// Note is what the annotation tessera.sh/tolerations says.
func (t Tolerations) Note() string { return strings.Join(t.ours, ",") }

// Endure lets the pod tolerate a NoExecute taint for so many seconds, nil is for ever. standard is the time that the upper API
// server (DefaultTolerationSeconds) gives to pods which say nothing: one with another time, or one that tolerates all, has its own
// will and keeps it. It reports whether that changed anything.
//
// The shortest of several tolerations counts, so the one that is there is changed, which the API server allows.
func (t *Tolerations) Endure(key string, seconds *int64, standard time.Duration) bool {
	taint := &corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute}
	at := slices.IndexFunc(t.All, func(one corev1.Toleration) bool { return one.ToleratesTaint(logr.Discard(), taint, false) })
	wanted := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}
	switch {
	case at < 0:
		t.All = append(slices.Clone(t.All), wanted)
	case !slices.Contains(t.ours, key) && !byDefault(t.All[at], key, standard), sameTime(t.All[at].TolerationSeconds, seconds):
		return false
	default:
		t.All = slices.Clone(t.All)
		t.All[at].TolerationSeconds = seconds
	}
	t.own(key)
	return true
}

// Restore gives the toleration of a taint its standard time again, if we changed it.
func (t *Tolerations) Restore(key string, standard time.Duration) bool {
	return slices.Contains(t.ours, key) && t.Endure(key, new(int64(standard.Seconds())), standard)
}

// Ignore lets the pod come to a node with a NoSchedule taint.
func (t *Tolerations) Ignore(key string) bool {
	taint := &corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule}
	if slices.ContainsFunc(t.All, func(one corev1.Toleration) bool { return one.ToleratesTaint(logr.Discard(), taint, false) }) {
		return false
	}
	t.All = append(slices.Clone(t.All), corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	t.own(key)
	return true
}

func (t *Tolerations) own(key string) {
	if !slices.Contains(t.ours, key) {
		t.ours = append(slices.Clone(t.ours), key)
	}
}

// below are those that mean something in a lower cluster.
func (t Tolerations) below() []corev1.Toleration {
	var kept []corev1.Toleration
	for _, one := range t.All {
		if one.Key == "" || one.Operator != corev1.TolerationOpExists || !slices.Contains(t.ours, one.Key) {
			kept = append(kept, *one.DeepCopy())
		}
	}
	return kept
}

func sameTime(a, b *int64) bool { return a == b || a != nil && b != nil && *a == *b }

// byDefault reports whether a toleration is the one that the API server's DefaultTolerationSeconds adds.
func byDefault(t corev1.Toleration, key string, standard time.Duration) bool {
	return t.Key == key && t.Operator == corev1.TolerationOpExists && t.Effect == corev1.TaintEffectNoExecute &&
		t.TolerationSeconds != nil && *t.TolerationSeconds == int64(standard.Seconds())
}
