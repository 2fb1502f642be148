package pods

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/objects"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/policies"
	"github.com/tessera-k8s/tessera/virtualnode/tokens"
)

// Everything that can keep a bound pod from a lower node, and when it is told.
func TestUnplaced(t *testing.T) {
	t.Parallel()
	now := time.Unix(100_000, 0)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	const moment, long = 3 * time.Second, time.Minute
	lower := func(d time.Duration, change ...func(*corev1.Pod)) *corev1.Pod {
		pod := lowerPod("1", change...)
		pod.CreationTimestamp = ago(d)
		return pod
	}
	scheduled := func(status corev1.ConditionStatus, d time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
				Type: corev1.PodScheduled, Status: status, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes", LastTransitionTime: ago(d),
			})
		}
	}
	gate := func(name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: name}} }
	}
	onNode := func(p *corev1.Pod) { p.Spec.NodeName = "n1" }
	denied := apierrors.NewForbidden(corev1.Resource("pods"), "p", errors.New("policy"))
	failed := func(err error, times int, d time.Duration) failure {
		return failure{err: err, times: times, since: now.Add(-d)}
	}
	unread := fmt.Errorf("x: %w", errors.Join(objects.ErrUnread, apierrors.NewForbidden(corev1.Resource("secrets"), "s", errors.New("rbac"))))
	no := failure{}
	for name, c := range map[string]struct {
		upper, lower *corev1.Pod
		failed       failure
		want         keys.Reason // "" for nothing to tell
		later        bool        // but there may be later
	}{
		"on its way":                      {upperPod("1"), nil, no, "", false},
		"it has a node":                   {upperPod("1"), lower(long, onNode), no, "", false},
		"refused once":                    {upperPod("1"), nil, failed(denied, 1, 0), "", true},
		"refused three times":             {upperPod("1"), nil, failed(denied, 3, moment), keys.RefusedBelow, false},
		"refused for long":                {upperPod("1"), nil, failed(denied, 2, long), keys.RefusedBelow, false},
		"a hiccup, often":                 {upperPod("1"), nil, failed(errors.New("reset"), 9, moment), "", true},
		"a hiccup that lasts":             {upperPod("1"), nil, failed(errors.New("reset"), 9, long), keys.RefusedBelow, false},
		"its name is taken":               {upperPod("1"), nil, failed(errForeign, 1, 0), keys.NameConflict, false},
		"an older one has its name":       {upperPod("1"), nil, failed(errTaken, 5, moment), "", true},
		"an older one keeps its name":     {upperPod("1"), nil, failed(errTaken, 5, long), reasonOrphan, false},
		"an object it names is taken":     {upperPod("1"), nil, failed(fmt.Errorf("x: %w", pair.ErrForeign), 1, 0), keys.NameConflict, false},
		"an object it names is unread":    {upperPod("1"), nil, failed(unread, 9, long), keys.ObjectsUnread, false},
		"a token it does not get":         {upperPod("1"), nil, failed(fmt.Errorf("x: %w", tokens.ErrRefused), 3, moment), keys.TokenRefused, false},
		"a policy that would differ":      {upperPod("1"), nil, failed(fmt.Errorf("x: %w", policies.ErrNotTheSame), 3, moment), keys.NetworkPolicy, false},
		"a power it may not have":         {upperPod("1"), nil, failed(&translate.NotAllowed{}, 1, 0), keys.NotAllowed, false},
		"being deleted above":             {upperPod("1", deleting(30)), nil, failed(denied, 9, long), "", false},
		"over above":                      {upperPod("1", phase(corev1.PodFailed)), nil, failed(denied, 9, long), "", false},
		"unschedulable for a moment":      {upperPod("1"), lower(long, scheduled(corev1.ConditionFalse, moment)), no, "", true},
		"unschedulable":                   {upperPod("1"), lower(long, scheduled(corev1.ConditionFalse, long)), no, keys.Unschedulable, false},
		"unschedulable, a clock is ahead": {upperPod("1"), lower(long, scheduled(corev1.ConditionFalse, -long)), no, "", true},
		"not looked at for a moment":      {upperPod("1"), lower(moment), no, "", true},
		"no scheduler":                    {upperPod("1"), lower(long), no, keys.NotScheduled, false},
		"behind another's gate":           {upperPod("1"), lower(long, gate("queue")), no, keys.Gated, false},
		"behind another's gate, new":      {upperPod("1"), lower(moment, gate("queue")), no, "", true},
		"behind our gate":                 {upperPod("1"), lower(long, gate(keys.HintGate)), no, "", false},
		"being deleted below":             {upperPod("1"), lower(long, deleting(30)), no, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			why, later := unplaced(c.upper, c.lower, c.failed, now)
			got := keys.Reason("")
			if why != nil {
				got = why.Reason
			}
			if got != c.want || (later > 0) != c.later || why != nil && why.Message == "" {
				t.Errorf("%+v, later %s", why, later)
			}
		})
	}
}
