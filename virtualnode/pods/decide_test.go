package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/pods/podtest"
)

// The pods of this package's tests.
var (
	upperPod, lowerPod  = podtest.UpperPod, podtest.LowerPod
	phase, deleting     = podtest.Phase, podtest.Deleting
	disrupted, restarts = podtest.Disrupted, podtest.Restarts
	withCondition       = podtest.WithCondition
)

func unmarked(pod *corev1.Pod) { delete(pod.Spec.Containers[0].Resources.Requests, keys.PodResource) }

func TestDecide(t *testing.T) {
	t.Parallel()
	fresh, seen := known{welcome: true}, known{welcome: true, wasBelow: true}
	lost, unwelcome := known{welcome: true, wasBelow: true, lost: true}, known{}
	deleted := known{welcome: true, sawDeleted: true}
	cases := map[string]struct {
		upper, lower *corev1.Pod
		known        known
		want         step
	}{
		"nothing anywhere":                       {nil, nil, fresh, idle},
		"new above":                              {upperPod("1"), nil, fresh, create},
		"on both sides":                          {upperPod("1"), lowerPod("1"), seen, tend},
		"on both sides after a restart":          {upperPod("1"), lowerPod("1"), fresh, tend},
		"not welcome":                            {upperPod("1"), nil, unwelcome, refuse},
		"not welcome and below already":          {upperPod("1"), lowerPod("1"), unwelcome, tend},
		"not welcome any more and vanished":      {upperPod("1", phase(corev1.PodRunning)), nil, unwelcome, replace},
		"deleted above while it lives below":     {nil, lowerPod("1"), deleted, collect},
		"gone above, nobody saw it go":           {nil, lowerPod("1"), seen, orphan},
		"orphan on its way out":                  {nil, lowerPod("1", deleting(30)), seen, wait},
		"same name again above":                  {upperPod("2"), lowerPod("1"), deleted, collect},
		"same name again, nobody saw it go":      {upperPod("2"), lowerPod("1"), fresh, orphan},
		"waits for an orphan and is deleted":     {upperPod("2", deleting(30)), lowerPod("1"), fresh, remove},
		"waits for an ending one and is deleted": {upperPod("2", deleting(30)), lowerPod("1", deleting(30)), deleted, remove},
		"both are wanted no more":                {upperPod("2", deleting(30)), lowerPod("1"), deleted, collect},
		"same name again, the old one is ending": {upperPod("2"), lowerPod("1", deleting(30)), fresh, wait},
		"same name again, the old one is lost":   {upperPod("2"), lowerPod("1", deleting(30)), lost, wait},
		"being deleted above":                    {upperPod("1", deleting(30)), lowerPod("1"), seen, end},
		"being deleted above and below":          {upperPod("1", deleting(30)), lowerPod("1", deleting(30)), seen, end},
		"being deleted above, lost below":        {upperPod("1", deleting(30)), lowerPod("1", deleting(30)), lost, end},
		"being deleted above and gone below":     {upperPod("1", deleting(30)), nil, seen, remove},
		"being deleted above, never below":       {upperPod("1", deleting(0)), nil, fresh, remove},
		"finished and being deleted":             {upperPod("1", deleting(0), phase(corev1.PodSucceeded)), lowerPod("1"), seen, end},
		"finished above, runs below":             {upperPod("1", phase(corev1.PodSucceeded)), lowerPod("1"), seen, stop},
		"finished above, ending below":           {upperPod("1", phase(corev1.PodFailed)), lowerPod("1", deleting(30)), seen, idle},
		"finished on both sides":                 {upperPod("1", phase(corev1.PodSucceeded)), lowerPod("1", phase(corev1.PodSucceeded)), seen, idle},
		"failed above, nothing below":            {upperPod("1", phase(corev1.PodFailed)), nil, seen, idle},
		"vanished below":                         {upperPod("1"), nil, seen, replace},
		"vanished below while we were away":      {upperPod("1", phase(corev1.PodRunning)), nil, fresh, replace},
		"vanished while pending below":           {upperPod("1", withCondition(keys.LowerScheduled, corev1.ConditionFalse)), nil, fresh, replace},
		"refused below before":                   {upperPod("1", withCondition(keys.LowerPlaced, corev1.ConditionFalse)), nil, fresh, create},
		"its lower node is lost":                 {upperPod("1", phase(corev1.PodRunning)), lowerPod("1", deleting(30)), lost, abandon},
		"abandoned, still below":                 {upperPod("1", phase(corev1.PodFailed), kept), lowerPod("1", deleting(30)), lost, idle},
		"abandoned, gone below":                  {upperPod("1", phase(corev1.PodFailed), kept), nil, fresh, release},
		"abandoned, being deleted, still below":  {upperPod("1", phase(corev1.PodFailed), kept, deleting(0)), lowerPod("1", deleting(30)), lost, end},
		"abandoned, being deleted, gone below":   {upperPod("1", phase(corev1.PodFailed), kept, deleting(0)), nil, fresh, remove},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := decide(c.upper, c.lower, c.known); got != c.want {
				t.Errorf("decide = %s, want %s", got, c.want)
			}
		})
	}
}

func kept(pod *corev1.Pod) { pod.Finalizers = []string{keys.LowerPod} }
