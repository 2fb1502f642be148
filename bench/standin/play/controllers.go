package play

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// emptyAgain is how long it takes until a namespace that was not empty is looked at again.
const emptyAgain = 100 * time.Millisecond

// nodeChanged takes note of nodes that somebody has changed, made or deleted.
func (s *Site) nodeChanged(e *rows.Event) {
	node, ok := e.Now.Object.(*corev1.Node)
	if !ok {
		if e.Type == rows.Deleted {
			s.room[e.Now.Serial].gone = true
		}
		return
	}
	i, ok := s.numberOf(node.Name)
	if !ok {
		i = len(s.room)
		s.room = append(s.room, room{})
		s.byName[node.Name] = i
	}
	r := &s.room[i]
	has := amounts(node.Status.Allocatable)
	r.free = r.free.Plus(has).Minus(r.has)
	r.has, r.object, r.gone = has, node, e.Type == rows.Deleted
}

func amounts(list corev1.ResourceList) objects.Amounts {
	return objects.Amounts{
		MilliCPU: int32(list.Cpu().MilliValue()), MemoryMi: int32(list.Memory().Value() >> 20), Pods: int32(list.Pods().Value()),
	}
}

// namespaceChanged empties a namespace that was deleted, and lets it go then.
func (p *Player) namespaceChanged(s *Site, e *rows.Event, now time.Time) {
	namespace := e.Now.Object.(*corev1.Namespace) // There are no rows of them.
	if e.Type != rows.Deleted && namespace.DeletionTimestamp != nil && !s.ending[namespace.Name] {
		if s.ending == nil {
			s.ending = map[string]bool{}
		}
		s.ending[namespace.Name] = true
		p.empty(s, namespace.Name, now)
	}
}

// empty removes what is in a namespace, and it itself once nothing is.
func (p *Player) empty(s *Site, name string, now time.Time) {
	left := 0
	for _, r := range s.cluster.InNamespaces() {
		picture := r.Picture(name)
		left += len(picture.Items)
		for i := range picture.Items {
			item := &picture.Items[i]
			if _, err := r.Change(name, r.Name(item), remove); err == nil && r == s.pods && item.Object == nil && item.Node >= 0 {
				s.give(int(item.Node), s.maker.Asks(item.Shape))
			}
		}
	}
	if left > 0 {
		p.at(now.Add(emptyAgain), func(now time.Time) { p.empty(s, name, now) })
		return
	}
	delete(s.ending, name)
	_, _ = s.spaces.Change("", name, remove)
}

// remove removes an item as it is, unless finalizers hold it.
func remove(item rows.Item) (rows.Next, error) {
	next := rows.Next{Item: item, Remove: true}
	if item.Object != nil {
		object := item.Object.DeepCopyObject().(metav1.Object)
		if len(object.GetFinalizers()) > 0 {
			return rows.Next{Same: true}, nil
		}
		next.Object = object.(objects.Object)
	}
	return next, nil
}

// countQuotas writes into the quotas how many objects there are, of the kinds that they count.
func (s *Site) countQuotas() {
	if s.quotas.Len() == 0 {
		return
	}
	picture := s.quotas.Picture("")
	for i := range picture.Items {
		quota := picture.Items[i].Object.(*corev1.ResourceQuota)
		status := corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: s.used(quota)}
		if equality.Semantic.DeepEqual(quota.Status, status) {
			continue
		}
		_, _ = s.quotas.Change(quota.Namespace, quota.Name, func(item rows.Item) (rows.Next, error) { // If it has gone, nothing is to be done.
			now := item.Object.(*corev1.ResourceQuota).DeepCopy()
			now.Status = status
			next := rows.Next{Item: item}
			next.Object = now
			return next, nil
		})
	}
}

// used counts what a quota counts: numbers of objects alone.
func (s *Site) used(quota *corev1.ResourceQuota) corev1.ResourceList {
	used := corev1.ResourceList{}
	for name := range quota.Spec.Hard {
		kind := strings.TrimPrefix(string(name), "count/")
		for _, r := range s.cluster.InNamespaces() {
			full := metav1.GroupResource{Group: r.Group, Resource: r.Resource}
			if kind == full.Resource && full.Group == "" || kind == full.Resource+"."+full.Group {
				used[name] = *resource.NewQuantity(int64(r.LenOf(quota.Namespace)), resource.DecimalSI)
			}
		}
	}
	return used
}
