package mutate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"gomodules.xyz/jsonpatch/v2"
)

// patch returns the JSON patch that makes of the raw object what was made of its typed form: before to after.
//
// The API server may be newer than our types and send fields that they drop. So the difference of the typed forms is
// carried over to the raw object, and the patch is the difference of the raw ones: unknown fields stay, and no path
// leads through a parent that the raw object lacks. nil if nothing changed.
func patch(raw []byte, before, after any) ([]byte, error) {
	var trees [3]any
	for i, object := range []any{json.RawMessage(raw), before, after} {
		data, err := json.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("encoding object: %w", err)
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		if err := decoder.Decode(&trees[i]); err != nil {
			return nil, fmt.Errorf("decoding object: %w", err)
		}
	}
	changed, err := json.Marshal(carry(trees[0], trees[1], trees[2]))
	if err != nil {
		return nil, fmt.Errorf("encoding patched object: %w", err)
	}
	operations, err := jsonpatch.CreatePatch(raw, changed)
	if err != nil {
		return nil, fmt.Errorf("making patch: %w", err)
	}
	if len(operations) == 0 {
		return nil, nil
	}
	return json.Marshal(operations)
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
