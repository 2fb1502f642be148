package play

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	podresources "k8s.io/component-helpers/resource"

	"github.com/tessera-k8s/tessera/bench/standin/admit"
	"github.com/tessera-k8s/tessera/bench/standin/api"
	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// Times of a pod of a client: about those of the lab's fake nodes.
const (
	startsAfter = 200 * time.Millisecond
	stopsAfter  = 100 * time.Millisecond
)

// Annotations that ask for more, as in bench/lab.
const (
	annotationRunSeconds = "lab.tessera.sh/run-seconds"
	annotationExitCode   = "lab.tessera.sh/exit-code"
)

// look takes note of what happened in a cluster: as a rule nothing, which costs three loads.
func (p *Player) look(s *Site, now time.Time) {
	told := s.pods.Told() + s.nodes.Told() + s.spaces.Told()
	if told == s.told {
		return
	}
	s.told = told
	s.podsSeen = p.read(s.pods, s.podsSeen, func(e *rows.Event) {
		if e.Now.Object == nil && e.Before.Object == nil {
			return // Who played it knows.
		}
		p.podChanged(s, e, now)
	})
	s.nodesSeen = p.read(s.nodes, s.nodesSeen, s.nodeChanged)
	s.spacesSeen = p.read(s.spaces, s.spacesSeen, func(e *rows.Event) { p.namespaceChanged(s, e, now) })
}

// read hands over all events, and returns the cursor. One that has fallen behind begins anew at the end.
func (p *Player) read(resource *api.Resource, cursor *rows.Cursor, take func(*rows.Event)) *rows.Cursor {
	for {
		found, _, moved, err := cursor.Read(p.events[:0])
		if err != nil {
			cursor.Close()
			_, cursor = resource.Begin("")
			return cursor
		}
		for i := range found {
			take(&found[i])
		}
		if moved != nil {
			return cursor
		}
	}
}

func (p *Player) podChanged(s *Site, e *rows.Event, now time.Time) {
	key := s.pods.Namespace(&e.Now) + "/" + s.pods.Name(&e.Now)
	if e.Before.Object == nil && e.Before.Node >= 0 { // It was a row until now, which has its room already.
		s.charged[key] = charge{int(e.Before.Node), s.maker.Asks(e.Before.Shape)}
	}
	if e.Type == rows.Deleted {
		s.release(key)
		delete(s.waiting, key)
		return
	}
	p.lookAt(s, key, now)
}

func (s *Site) release(key string) {
	if c, ok := s.charged[key]; ok {
		delete(s.charged, key)
		s.give(c.node, c.asks)
	}
}

// lookAt does what is next for a client's pod.
func (p *Player) lookAt(s *Site, key string, now time.Time) {
	namespace, name, _ := cache.SplitMetaNamespaceKey(key) // It was made of the two.
	item, ok := s.pods.Get(namespace, name)
	delete(s.waiting, key)
	if !ok || item.Object == nil {
		return
	}
	pod := item.Object.(*corev1.Pod)
	finished := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	switch {
	case pod.DeletionTimestamp != nil:
		p.at(now.Add(stopsAfter), func(now time.Time) {
			s.stop(pod, now)
			s.end(namespace, name, pod)
		})
	case finished:
		s.release(key)
	case pod.Spec.NodeName == "":
		s.place(key, pod, now)
	case pod.Status.Phase == corev1.PodPending:
		s.charge(key, pod)
		p.at(now.Add(startsAfter), func(now time.Time) { s.run(pod, now) })
	default:
		p.runOut(s, pod, now)
	}
}

// charge notes what a bound pod takes on its node, once.
func (s *Site) charge(key string, pod *corev1.Pod) {
	if _, done := s.charged[key]; done {
		return
	}
	if node, ok := s.numberOf(pod.Spec.NodeName); ok {
		c := charge{node, asks(pod)}
		s.charged[key] = c
		s.take(c.node, c.asks)
	}
}

// asks are what a scheduler charges a node for a pod.
func asks(pod *corev1.Pod) objects.Amounts {
	list := podresources.PodRequests(pod, podresources.PodResourcesOptions{})
	return objects.Amounts{
		MilliCPU: int32(min(list.Cpu().MilliValue(), 1<<30)), MemoryMi: int32(min((list.Memory().Value()+1<<20-1)>>20, 1<<30)), Pods: 1,
	}
}

// change lets to change that very pod; it returns false to leave it as it is.
func (s *Site) change(of *corev1.Pod, to func(*corev1.Pod) bool) {
	_, _ = s.pods.Change(of.Namespace, of.Name, func(item rows.Item) (rows.Next, error) { // If it has gone, nothing is to be done.
		now, ok := item.Object.(*corev1.Pod)
		if !ok || now.UID != of.UID {
			return rows.Next{Same: true}, nil
		}
		pod := now.DeepCopy()
		next := rows.Next{Item: item, Same: !to(pod)}
		next.Object = pod
		return next, nil
	})
}

// place does what a scheduler does.
func (s *Site) place(key string, pod *corev1.Pod, now time.Time) {
	if pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
		return
	}
	when := metav1.NewTime(now.Truncate(time.Second))
	if len(pod.Spec.SchedulingGates) > 0 {
		s.tell(pod, corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated, LastTransitionTime: when,
			Message: "Scheduling is blocked due to non-empty scheduling gates", ObservedGeneration: pod.Generation,
		})
		return
	}
	node := s.chooseFor(pod, asks(pod))
	if node < 0 {
		s.waiting[key] = true
		condition := objects.Unschedulable(when)
		condition.ObservedGeneration = pod.Generation
		s.tell(pod, condition)
		return
	}
	s.change(pod, func(now *corev1.Pod) bool {
		if now.Spec.NodeName != "" || now.DeletionTimestamp != nil {
			return false
		}
		admit.Bind(now, s.node(node).Name, when.Time)
		now.Status.NominatedNodeName = ""
		c := charge{node, asks(now)}
		s.charged[key] = c
		s.take(c.node, c.asks)
		return true
	})
}

// tell sets a condition, unless the pod has it.
func (s *Site) tell(pod *corev1.Pod, condition corev1.PodCondition) {
	s.change(pod, func(now *corev1.Pod) bool {
		for _, c := range now.Status.Conditions {
			if c.Type == condition.Type && c.Status == condition.Status && c.Reason == condition.Reason {
				return false
			}
		}
		admit.SetCondition(now, condition)
		return true
	})
}

// run starts a bound pod.
func (s *Site) run(of *corev1.Pod, now time.Time) {
	when := metav1.NewTime(now.Truncate(time.Second))
	s.change(of, func(pod *corev1.Pod) bool {
		if pod.Status.Phase != corev1.PodPending || pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil {
			return false
		}
		s.serial++ // Pods that are objects have addresses as others do.
		row := rows.Row{Serial: s.serial}
		pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &when
		pod.Status.PodIP = objects.PodIP(row)
		pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
		if node, ok := s.numberOf(pod.Spec.NodeName); ok {
			pod.Status.HostIP = objects.HostIP(uint32(node))
			pod.Status.HostIPs = []corev1.HostIP{{IP: pod.Status.HostIP}}
		}
		for _, c := range objects.RunningConditions(when, nil) {
			if c.Type != corev1.PodScheduled {
				c.ObservedGeneration = pod.Generation
				admit.SetCondition(pod, c)
			}
		}
		gate(pod)
		pod.Status.ContainerStatuses = nil
		for _, c := range pod.Spec.Containers {
			pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
				Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: true, Started: new(true),
				ContainerID: "standin://" + string(pod.UID) + "/" + c.Name,
				State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: when}},
			})
		}
		return true
	})
}

// gate makes a pod unready while its readiness gates are not all true.
func gate(pod *corev1.Pod) {
	for _, g := range pod.Spec.ReadinessGates {
		met := false
		for _, c := range pod.Status.Conditions {
			met = met || c.Type == g.ConditionType && c.Status == corev1.ConditionTrue
		}
		if met {
			continue
		}
		admit.SetCondition(pod, corev1.PodCondition{
			Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ReadinessGatesNotReady", LastTransitionTime: *pod.Status.StartTime,
			Message:            fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType),
			ObservedGeneration: pod.Generation,
		})
		return
	}
}

// runOut looks after a pod that runs: its readiness gates, and its end if it asks for one.
func (p *Player) runOut(s *Site, pod *corev1.Pod, now time.Time) {
	if len(pod.Spec.ReadinessGates) > 0 {
		s.change(pod, func(now *corev1.Pod) bool {
			admit.SetCondition(now, corev1.PodCondition{
				Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now().Rfc3339Copy(), ObservedGeneration: now.Generation,
			})
			gate(now)
			return fmt.Sprint(now.Status.Conditions) != fmt.Sprint(pod.Status.Conditions)
		})
	}
	seconds, err := strconv.ParseFloat(pod.Annotations[annotationRunSeconds], 64)
	if err != nil || pod.Status.StartTime == nil {
		return
	}
	end := pod.Status.StartTime.Add(time.Duration(seconds * float64(time.Second)))
	if end.Before(now) {
		end = now
	}
	p.at(end, func(now time.Time) { s.finish(pod, now) })
}

// finish ends the containers of a pod.
func (s *Site) finish(of *corev1.Pod, now time.Time) {
	code, _ := strconv.Atoi(of.Annotations[annotationExitCode]) // 0 where there is none.
	when := metav1.NewTime(now.Truncate(time.Second))
	s.change(of, func(pod *corev1.Pod) bool {
		if pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil || pod.Spec.RestartPolicy == corev1.RestartPolicyAlways {
			return false
		}
		complete(pod, int32(code), when)
		return true
	})
}

// stop ends the containers of a pod that was deleted.
func (s *Site) stop(of *corev1.Pod, now time.Time) {
	s.change(of, func(pod *corev1.Pod) bool {
		if pod.Status.Phase != corev1.PodRunning || pod.Status.StartTime == nil {
			return false
		}
		complete(pod, 0, metav1.NewTime(now.Truncate(time.Second)))
		return true
	})
}

// complete is what becomes of a pod whose containers have ended.
func complete(pod *corev1.Pod, code int32, when metav1.Time) {
	pod.Status.Phase = corev1.PodSucceeded
	reason := "Completed"
	if code != 0 {
		pod.Status.Phase, reason = corev1.PodFailed, "Error"
	}
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		c.Ready, c.Started = false, new(false)
		c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, StartedAt: *pod.Status.StartTime, FinishedAt: when, ContainerID: c.ContainerID,
		}}
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		admit.SetCondition(pod, corev1.PodCondition{
			Type: kind, Status: corev1.ConditionFalse, Reason: "PodCompleted", LastTransitionTime: when, ObservedGeneration: pod.Generation,
		})
	}
}

// end removes a deleted pod, that very one, unless finalizers hold it.
func (s *Site) end(namespace, name string, of *corev1.Pod) {
	_, _ = s.pods.Change(namespace, name, func(item rows.Item) (rows.Next, error) { // If it has gone, nothing is to be done.
		pod, ok := item.Object.(*corev1.Pod)
		if !ok || pod.UID != of.UID || len(pod.Finalizers) > 0 {
			return rows.Next{Same: true}, nil
		}
		next := rows.Next{Item: item, Remove: true}
		next.Object = pod.DeepCopy()
		return next, nil
	})
}
