package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/tessera-k8s/tessera/bench/standin/admit"
	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// deleteOptions reads them from the body or, as kubectl sends them, from the query.

func (c *call) deleteOptions() (*metav1.DeleteOptions, error) {
	o := &metav1.DeleteOptions{}
	data, err := body(c.r)
	if err != nil {
		return nil, err
	}
	if len(data) > 0 {
		kind := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
		if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, &kind, o); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if text := c.r.URL.Query().Get("gracePeriodSeconds"); text != "" {
		grace, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		o.GracePeriodSeconds = &grace
	}
	return o, nil
}

// delete removes an object, or begins to.

func (c *call) delete() error {
	options, err := c.deleteOptions()
	if err != nil {
		return err
	}
	object, err := c.remove(c.namespace, c.name, options)
	if err != nil {
		return err
	}
	if c.Returned {
		return c.reply(http.StatusOK, object)
	}
	c.Counts.Writes.Add(1)
	answer(c.w, http.StatusOK, statusKind, success(&metav1.StatusDetails{
		Name: c.name, Group: c.Group, Kind: c.Resource.Resource, UID: object.GetUID(),
	}), c.encoding)
	return nil
}

var statusKind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}

// deleteAll removes what is selected.

func (c *call) deleteAll() error {
	options, err := c.deleteOptions()
	if err != nil {
		return err
	}
	listed, err := c.options(c.r.URL.Query())
	if err != nil {
		return err
	}
	selected, err := c.selection(listed)
	if err != nil {
		return err
	}
	picture := c.Picture(c.namespace)
	var items []*rows.Item
	for i := range picture.Items {
		item := &picture.Items[i]
		if !selected.takes(item) {
			continue
		}
		if _, err := c.remove(c.Namespace(item), c.Table.Name(item), options); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		items = append(items, item)
	}
	c.Counts.Writes.Add(1)
	return c.writeList(metav1.ListMeta{ResourceVersion: rows.FormatVersion(picture.Version)}, items)
}

// remove deletes one object or, where that takes time, marks it as deleted. It returns what it was at last.

func (c *call) remove(namespace, name string, options *metav1.DeleteOptions) (objects.Object, error) {
	marked := c.Kind.Kind == "Pod" // A pod is marked first, even if it goes at once: watches see both.
	remove := false
	item, err := c.Change(namespace, name, func(item rows.Item) (rows.Next, error) {
		before := objects.Of(c.Maker, item)
		if err := c.meets(before, options.Preconditions); err != nil {
			return rows.Next{}, err
		}
		after := before.DeepCopyObject().(objects.Object)
		next := rows.Next{Item: item}
		next.Object = after
		remove = !admit.MarkDeleted(after, options, time.Now())
		next.Remove = remove && !marked
		next.Same = !next.Remove && before.GetDeletionTimestamp() != nil &&
			before.GetDeletionTimestamp().Time.Equal(after.GetDeletionTimestamp().Time)
		if len(options.DryRun) > 0 {
			return rows.Next{}, dryRun{after}
		}
		return next, nil
	})
	if err == nil && remove && marked {
		item, err = c.drop(namespace, name, objects.Of(c.Maker, item).GetUID())
	}
	if dry := (dryRun{}); errors.As(err, &dry) {
		return dry.Object, nil
	}
	if errors.Is(err, rows.ErrNotFound) {
		return nil, apierrors.NewNotFound(c.groupResource(), name)
	}
	if err != nil {
		return nil, err
	}
	return objects.Of(c.Maker, item), nil
}

// precondition is the error of a write that is for another version or object.
func (c *call) precondition(name, what, want, have string) error {
	text := fmt.Sprintf("Precondition failed: %s in precondition: %s, %s in object meta: %s", what, want, what, have) // A real one's words.
	return apierrors.NewConflict(c.groupResource(), name, errors.New(text))
}

// drop removes an object that is marked as deleted, that very one.

func (c *call) drop(namespace, name string, uid types.UID) (rows.Item, error) {
	return c.Change(namespace, name, func(item rows.Item) (rows.Next, error) {
		next := rows.Next{Item: item, Remove: true}
		if object := objects.Of(c.Maker, item); object.GetUID() != uid || len(object.GetFinalizers()) > 0 {
			return rows.Next{Same: true}, nil
		}
		next.Object = item.Object.DeepCopyObject()
		return next, nil
	})
}

func (c *call) meets(object objects.Object, wanted *metav1.Preconditions) error {
	if wanted == nil {
		return nil
	}
	conflict := func(what, want, have, hint string) error {
		if c.Kind.Kind == "Namespace" { // They are deleted by code of their own.
			return c.precondition(object.GetName(), what, want, have)
		}
		return apierrors.NewConflict(schema.GroupResource{Group: c.Group, Resource: c.Kind.Kind}, object.GetName(), fmt.Errorf(
			"the %s in the precondition (%s) does not match the %s in record (%s). The object might have been %s", what, want, what, have, hint))
	}
	if wanted.UID != nil && *wanted.UID != object.GetUID() {
		return conflict("UID", string(*wanted.UID), string(object.GetUID()), "deleted and then recreated")
	}
	if wanted.ResourceVersion != nil && *wanted.ResourceVersion != object.GetResourceVersion() {
		return conflict("ResourceVersion", *wanted.ResourceVersion, object.GetResourceVersion(), "modified")
	}
	return nil
}

// evict deletes a pod as its Eviction asks. No budget is looked at: nobody counts what is healthy here.

func (c *call) evict() error {
	eviction := &policyv1.Eviction{}
	if err := decodeInto(c.r, eviction); err != nil {
		return err
	}
	options := eviction.DeleteOptions
	if options == nil {
		options = &metav1.DeleteOptions{}
	}
	if _, err := c.remove(c.namespace, c.name, options); err != nil {
		return err
	}
	c.Counts.Writes.Add(1)
	answer(c.w, http.StatusCreated, statusKind, done(), c.encoding)
	return nil
}
