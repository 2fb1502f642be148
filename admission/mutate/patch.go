package mutate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
)

// patch returns the JSON patch that makes of the raw object what was made of its typed form: before to after. nil if nothing changed.
//
// The API server may be newer than our types and send fields that they drop. So both forms are gone through beside the raw object: only
// what differs is encoded, unknown fields stay, and no path leads through a parent that the raw object lacks.
func patch(raw []byte, before, after any) ([]byte, error) {
	var d differences
	if err := d.find("", raw, reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()); err != nil {
		return nil, err
	}
	if len(d) == 0 {
		return nil, nil
	}
	return json.Marshal([]jsonpatch.Operation(d))
}

// differences are the operations found so far.
type differences []jsonpatch.Operation

// find looks for the differences at one path. raw is what is there, nil if nothing is.
func (d *differences) find(path string, raw json.RawMessage, before, after reflect.Value) error {
	if reflect.DeepEqual(before.Interface(), after.Interface()) {
		return nil // Also where raw has no such key: a zero value that only our encoder writes.
	}
	if before.Kind() == reflect.Pointer && !before.IsNil() && !after.IsNil() {
		before, after = before.Elem(), after.Elem()
	}
	switch {
	case before.Kind() == reflect.Struct && !reflect.PointerTo(before.Type()).Implements(marshaler):
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) == nil && members != nil {
			return d.inMembers(path, members, before, after)
		}
	case before.Kind() == reflect.Slice && before.Len() == after.Len() && before.Len() > 0:
		var elements []json.RawMessage
		if json.Unmarshal(raw, &elements) == nil && len(elements) == before.Len() {
			return d.inElements(path, elements, before, after)
		}
	}
	return d.replace(path, raw, before, after)
}

func (d *differences) inElements(path string, elements []json.RawMessage, before, after reflect.Value) error {
	for i, element := range elements {
		if err := d.find(path+"/"+strconv.Itoa(i), element, before.Index(i), after.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

var marshaler = reflect.TypeFor[json.Marshaler]()

func (d *differences) inMembers(path string, members map[string]json.RawMessage, before, after reflect.Value) error {
	for i := range before.NumField() {
		name, options, _ := strings.Cut(before.Type().Field(i).Tag.Get("json"), ",")
		b, a := before.Field(i), after.Field(i)
		var err error
		switch {
		case name == "" && before.Type().Field(i).Anonymous:
			err = d.inMembers(path, members, b, a)
		case omitted(a, options) && !omitted(b, options):
			if _, there := members[name]; there {
				*d = append(*d, jsonpatch.NewOperation("remove", path+"/"+name, nil))
			}
		case !omitted(a, options):
			err = d.find(path+"/"+name, members[name], b, a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// omitted reports whether encoding/json leaves out a field with these options.
func omitted(field reflect.Value, options string) bool {
	switch field.Kind() {
	case reflect.Map, reflect.Slice, reflect.String:
		return strings.Contains(options, "omitempty") && field.Len() == 0
	case reflect.Struct:
		return strings.Contains(options, "omitzero") && field.IsZero()
	default:
		return strings.Contains(options, "omit") && field.IsZero()
	}
}

// replace has another value at the path, with what our types do not know of the old one.
func (d *differences) replace(path string, raw json.RawMessage, before, after reflect.Value) error {
	var trees [3]any
	for i, value := range []any{raw, before.Interface(), after.Interface()} {
		if i == 0 && raw == nil {
			continue
		}
		data, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("encoding %s: %w", path, err)
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		if err := decoder.Decode(&trees[i]); err != nil {
			return fmt.Errorf("decoding %s: %w", path, err)
		}
	}
	if raw == nil {
		*d = append(*d, jsonpatch.NewOperation("add", path, trees[2]))
		return nil
	}
	if changed := carry(trees[0], trees[1], trees[2]); !reflect.DeepEqual(changed, trees[0]) {
		*d = append(*d, jsonpatch.NewOperation("replace", path, changed))
	}
	return nil
}

// carry returns raw with the change from before to after made to it.
func carry(raw, before, after any) any {
	if reflect.DeepEqual(before, after) {
		return raw
	}
	switch to := after.(type) {
	case map[string]any:
		old, _ := before.(map[string]any)
		from, ok := raw.(map[string]any)
		if !ok {
			return after
		}
		return carryMap(from, old, to)
	case []any:
		old, _ := before.([]any)
		from, ok := raw.([]any)
		if !ok || len(from) != len(old) || len(to) < len(old) {
			return after
		}
		return carryList(from, old, to)
	}
	return after
}

func carryMap(raw, before, after map[string]any) map[string]any {
	result := map[string]any{}
	for key, value := range raw {
		_, was := before[key]
		if _, is := after[key]; is || !was {
			result[key] = value
		}
	}
	for key, value := range after {
		old, was := before[key]
		if was && reflect.DeepEqual(old, value) {
			continue // Also when raw has no such key: it is a zero value that only our encoder writes.
		}
		result[key] = carry(raw[key], old, value)
	}
	return result
}

// carryList takes the first elements to be the same ones: lists here only grow at their end.
func carryList(raw, before, after []any) []any {
	result := make([]any, 0, len(after))
	for i, value := range after {
		if i < len(before) {
			value = carry(raw[i], before[i], value)
		}
		result = append(result, value)
	}
	return result
}
