package translate

import (
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// podField is a place in a pod.
type podField struct {
	// path is such as spec.containers[].name; key is the type and the field, Container.name, or the path for the pod's own
	// metadata, whose type is found elsewhere too.
	path, key string
	steps     []int // indexes of fields, dereference, element
	leaf      bool
	powerful  bool // It lies in a field that is refused unless allowed.
}

// within reports whether the field lies in that one.
func (f podField) within(outer podField) bool {
	return len(outer.steps) > 0 && len(f.steps) > len(outer.steps) && slices.Equal(f.steps[:len(outer.steps)], outer.steps)
}

const (
	dereference = -1
	element     = -2
)

// atoms are structs that are values, with one for each.
var atoms = map[reflect.Type]any{
	reflect.TypeFor[resource.Quantity]():  resource.MustParse("1"),
	reflect.TypeFor[metav1.Time]():        metav1.NewTime(time.Unix(1, 0)),
	reflect.TypeFor[intstr.IntOrString](): intstr.FromInt32(1),
	reflect.TypeFor[metav1.FieldsV1]():    *metav1.NewFieldsV1("{}"),
}

// samples are the values of fields that LowerPod reads.
var samples = map[string]string{"ObjectFieldSelector.fieldPath": "metadata.uid"}

// podFields lists every field of a pod's metadata and spec: first one that has fields, then its fields.
func podFields() []podField {
	var found []podField
	pod := reflect.TypeFor[corev1.Pod]()
	for _, name := range []string{"ObjectMeta", "Spec"} {
		top, _ := pod.FieldByName(name)
		tag, _, _ := strings.Cut(top.Tag.Get("json"), ",")
		walk(top.Type, podField{path: tag, steps: top.Index}, &found)
	}
	for i, f := range found {
		if f.steps[0] == 1 && len(f.steps) == 2 {
			found[i].key = f.path
		}
	}
	return found
}

func walk(structure reflect.Type, at podField, found *[]podField) {
	for i := range structure.NumField() {
		inner := structure.Field(i)
		name, _, _ := strings.Cut(inner.Tag.Get("json"), ",")
		f := podField{
			path: at.path + "." + name, key: structure.Name() + "." + name,
			steps: append(slices.Clone(at.steps), i),
		}
		kind, deeper := content(inner.Type, f)
		_, atom := atoms[kind]
		f.leaf = atom || kind.Kind() != reflect.Struct || kind.NumField() == 0
		if inner.Anonymous && name == "" {
			deeper.path = at.path
			walk(kind, deeper, found)
			continue
		}
		*found = append(*found, f)
		if !f.leaf {
			walk(kind, deeper, found)
		}
	}
}

// content goes through pointers and lists to what they hold.
func content(kind reflect.Type, at podField) (reflect.Type, podField) {
	deeper := podField{path: at.path, steps: slices.Clone(at.steps)}
	for {
		switch kind.Kind() {
		case reflect.Pointer:
			deeper.steps = append(deeper.steps, dereference)
		case reflect.Slice:
			deeper.steps, deeper.path = append(deeper.steps, element), deeper.path+"[]"
		default:
			return kind, deeper
		}
		kind = kind.Elem()
	}
}

// in is the place in a pod, which is given whatever is needed around it.
func (f podField) in(pod *corev1.Pod) reflect.Value {
	value := reflect.ValueOf(pod).Elem()
	for _, step := range f.steps {
		switch step {
		case dereference:
			if value.IsNil() {
				value.Set(reflect.New(value.Type().Elem()))
			}
			value = value.Elem()
		case element:
			if value.Len() == 0 {
				value.Set(reflect.MakeSlice(value.Type(), 1, 1))
			}
			value = value.Index(0)
		default:
			value = value.Field(step)
		}
	}
	return value
}

// fill gives a value to everything in a place.
func fill(value reflect.Value, key string) {
	if atom, ok := atoms[value.Type()]; ok {
		value.Set(reflect.ValueOf(atom))
		return
	}
	switch value.Kind() {
	case reflect.String:
		value.SetString("x")
		if sample, ok := samples[key]; ok {
			value.SetString(sample)
		}
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Int32, reflect.Int64:
		value.SetInt(1)
	case reflect.Uint8:
		value.SetUint(1)
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		fill(value.Elem(), key)
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 1, 1))
		fill(value.Index(0), key)
	case reflect.Map:
		entry, name := reflect.New(value.Type().Elem()).Elem(), reflect.New(value.Type().Key()).Elem()
		fill(entry, key)
		fill(name, key)
		value.Set(reflect.MakeMap(value.Type()))
		value.SetMapIndex(name, entry)
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() {
				fill(value.Field(i), value.Type().Name()+"."+value.Type().Field(i).Name)
			}
		}
	}
}
