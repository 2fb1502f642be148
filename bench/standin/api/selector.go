package api

import (
	"fmt"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// options reads and checks the options of a list or watch.
func (c *call) options(query url.Values) (*internalversion.ListOptions, error) {
	o := &internalversion.ListOptions{}
	if err := internalscheme.ParameterCodec.DecodeParameters(query, metav1.SchemeGroupVersion, o); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if faults := validation.ValidateListOptions(o, true); len(faults) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", faults)
	}
	if v := o.ResourceVersion; v != "" {
		if _, err := strconv.ParseUint(v, 10, 64); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: resourceVersion: Invalid value: %q: %v", v, err))
		}
	}
	return o, nil
}

// selection is what a list or watch is limited to.
type selection struct {
	resource  *Resource
	namespace string
	labels    labels.Selector // nil for all
	fields    []fields.Requirement
}

func (c *call) selection(o *internalversion.ListOptions) (*selection, error) {
	s := &selection{resource: c.Resource, namespace: c.namespace}
	if o.LabelSelector != nil && !o.LabelSelector.Empty() {
		s.labels = o.LabelSelector
	}
	if o.FieldSelector != nil {
		s.fields = o.FieldSelector.Requirements()
	}
	for _, r := range s.fields {
		if !known(c.Kind, r.Field) {
			return nil, apierrors.NewBadRequest("field label not supported: " + r.Field)
		}
	}
	return s, nil
}

// all reports whether everything in its namespace is selected.
func (s *selection) all() bool { return s.labels == nil && len(s.fields) == 0 }

// takes reports whether an item is selected.
func (s *selection) takes(item *rows.Item) bool {
	if s.namespace != "" && s.resource.Namespace(item) != s.namespace {
		return false
	}
	if s.labels != nil && !s.labels.Matches(s.resource.labelsOf(item)) {
		return false
	}
	for _, r := range s.fields {
		value := s.resource.field(item, r.Field)
		if (value == r.Value) != (r.Operator != "!=") {
			return false
		}
	}
	return true
}

func (r *Resource) labelsOf(item *rows.Item) labels.Set {
	if item.Object != nil {
		return item.Object.(objects.Object).GetLabels()
	}
	return r.Maker.Labels(item.Row)
}

func (r *Resource) field(item *rows.Item, name string) string {
	if item.Object == nil {
		value, _ := r.Maker.Field(item.Row, name)
		return value
	}
	object := item.Object.(objects.Object)
	switch name {
	case "metadata.name":
		return object.GetName()
	case "metadata.namespace":
		return object.GetNamespace()
	}
	value, _ := fieldOf(object, name)
	return value
}

// known reports whether a field selector may name a field of a kind.
func known(kind Kind, field string) bool {
	if field == "metadata.name" || field == "metadata.namespace" && kind.Namespaced {
		return true
	}
	_, ok := fieldOf(kind.make(), field)
	return ok
}

// fieldOf is a field of an object that can be selected by.
func fieldOf(object objects.Object, field string) (value string, ok bool) {
	switch o := object.(type) {
	case *corev1.Pod:
		return objects.PodField(o, field)
	case *corev1.Node:
		return objects.NodeField(o, field)
	case *corev1.Namespace:
		return string(o.Status.Phase), field == "status.phase"
	case *corev1.Secret:
		return string(o.Type), field == "type"
	case *corev1.Event:
		value, ok = map[string]string{
			"involvedObject.kind": o.InvolvedObject.Kind, "involvedObject.namespace": o.InvolvedObject.Namespace,
			"involvedObject.name": o.InvolvedObject.Name, "involvedObject.uid": string(o.InvolvedObject.UID),
			"involvedObject.apiVersion": o.InvolvedObject.APIVersion, "involvedObject.resourceVersion": o.InvolvedObject.ResourceVersion,
			"involvedObject.fieldPath": o.InvolvedObject.FieldPath, "reason": o.Reason, "reportingComponent": o.ReportingController,
			"source": o.Source.Component, "type": o.Type,
		}[field]
		return value, ok
	}
	return "", false
}

// encode returns the encoding of an item.
func (c *call) raw(item *rows.Item) ([]byte, error) {
	if item.Object != nil {
		return objects.EncodeItem(item, c.encoding)
	}
	return c.Maker.Append(nil, item.Row, c.encoding), nil
}
