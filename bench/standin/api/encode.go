package api

import (
	"encoding/binary"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
)

// marshaler is what can be encoded in both ways.
type marshaler interface{ Marshal() ([]byte, error) }

func encode(object marshaler, encoding objects.Encoding) ([]byte, error) {
	if encoding == objects.JSON {
		return json.Marshal(object)
	}
	return object.Marshal()
}

// preamble is the encoding of a kind, which stands before an object.
type preamble struct {
	protobuf []byte // the field typeMeta of runtime.Unknown, behind the prefix of the format
	json     []byte // the beginning of an object, with an open brace
}

// prefix begins everything in Kubernetes' protobuf.
const prefix = "k8s\x00"

func newPreamble(kind schema.GroupVersionKind) preamble {
	version, name := kind.ToAPIVersionAndKind()
	meta, err := (&runtime.TypeMeta{APIVersion: version, Kind: name}).Marshal()
	if err != nil {
		panic(err) // Two strings always encode.
	}
	t := preamble{protobuf: appendField([]byte(prefix), 1, len(meta))}
	t.protobuf = append(t.protobuf, meta...)
	text, err := json.Marshal(metav1.TypeMeta{APIVersion: version, Kind: name})
	if err != nil {
		panic(err)
	}
	t.json = text[:len(text)-1]
	return t
}

// listPreamble are those of the list of a kind.
func listPreamble(kind schema.GroupVersionKind) preamble {
	kind.Kind += "List"
	return newPreamble(kind)
}

// appendField appends the head of a protobuf field that has bytes.
func appendField(dst []byte, number, size int) []byte {
	return binary.AppendUvarint(append(dst, byte(number<<3|2)), uint64(size))
}

func fieldSize(size int) int { return 1 + varintSize(size) + size }

func varintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// unknownEnd are the empty fields contentEncoding and contentType at the end of runtime.Unknown.
const unknownEnd = "\x1a\x00\x22\x00"

// wrappedSize is the length of what wrapped appends in protobuf.
func (t preamble) wrappedSize(raw int) int { return len(t.protobuf) + fieldSize(raw) + len(unknownEnd) }

// wrapped appends an object with its kind; raw is its encoding.
func wrapped(dst []byte, t preamble, raw []byte, encoding objects.Encoding) []byte {
	if encoding == objects.JSON {
		return append(appendJSON(dst, t, raw), '\n')
	}
	dst = appendField(append(dst, t.protobuf...), 2, len(raw))
	return append(append(dst, raw...), unknownEnd...)
}

func appendJSON(dst []byte, t preamble, raw []byte) []byte {
	dst = append(dst, t.json...)
	if len(raw) > 2 {
		dst = append(dst, ',')
	}
	return append(dst, raw[1:]...)
}

// frame appends an event of a watch: size is that of the object's encoding, which object appends.
func frame(dst []byte, event string, t preamble, encoding objects.Encoding, size int, object func([]byte) []byte) []byte {
	if encoding == objects.JSON {
		dst = append(append(append(dst, `{"type":"`...), event...), `","object":`...)
		dst = append(append(dst, t.json...), ',')
		comma := len(dst)
		dst = object(dst)
		dst[comma] = ' ' // Its brace, which is open already.
		return append(dst, "}\n"...)
	}
	inner := t.wrappedSize(size)
	extension := fieldSize(inner)
	dst = binary.BigEndian.AppendUint32(dst, uint32(fieldSize(len(event))+fieldSize(extension)))
	dst = append(appendField(dst, 1, len(event)), event...)
	dst = appendField(appendField(dst, 2, extension), 1, inner)
	dst = appendField(append(dst, t.protobuf...), 2, size)
	return append(object(dst), unknownEnd...)
}
