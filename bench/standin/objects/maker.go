package objects

import (
	"fmt"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// Maker makes the objects of a table from rows.
type Maker interface {
	rows.Maker
	Encoder
	Labels(r rows.Row) labels.Set
	Field(r rows.Row, name string) (value string, ok bool)
	Object(r rows.Row) Object
}

// Encoder encodes what rows stand for.
type Encoder interface {
	// Append appends the encoding without the kind, which has the length Size.
	Append(dst []byte, r rows.Row, encoding Encoding) []byte
	Size(r rows.Row, encoding Encoding) int
}

var _ Maker = Pods{}
var _ Maker = Nodes{}

// Of returns the object of an item. Nobody changes it.
func Of(maker Maker, item rows.Item) Object {
	if item.Object != nil {
		return item.Object.(Object) // Nothing else is put into a table.
	}
	return maker.Object(item.Row)
}

// EncodeItem encodes an item that is an object.
func EncodeItem(item *rows.Item, encoding Encoding) ([]byte, error) {
	object, ok := item.Object.(Object)
	if !ok {
		return nil, fmt.Errorf("encoding an item: %T is no API object", item.Object)
	}
	return Encode(object, encoding)
}
