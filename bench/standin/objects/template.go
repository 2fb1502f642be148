package objects

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// Encoding is a form in which clients want objects.
type Encoding uint8

// The encodings.
const (
	Protobuf Encoding = iota
	JSON
	encodings
)

// Object is an API object that both encodings know.
type Object interface {
	runtime.Object
	metav1.Object
	Marshal() ([]byte, error)
}

// Encode encodes an object as it is in lists: without its kind.
func Encode(object Object, encoding Encoding) ([]byte, error) {
	if encoding == JSON {
		return json.Marshal(object)
	}
	return object.Marshal()
}

// values are what differs between two objects of one look. All have the same length in all objects.
type values struct {
	suffix           string // 5 letters: the end of a pod's name
	uid              string // 36
	version          string // 10 digits
	node             string // 6 digits: the end of a node's name
	podIP, hostIP    string // 11: all but the first part
	instance         string // 17 digits
	born, since, end int64
}

// The places of values in a template.
const (
	holeSuffix = iota
	holeUID
	holeVersion
	holeNode
	holePodIP
	holeHostIP
	holeInstance
	holeBorn
	holeSince
	holeEnd
)

// marks are values that occur nowhere else, so that their places in an encoding are found by looking for them.
var marks = values{
	suffix: "~~~~~", uid: "^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^", version: "||||||||||", node: "``````",
	podIP: "!!!!!!!!!!!", hostIP: "$$$$$$$$$$$", instance: "@@@@@@@@@@@@@@@@@",
	born: 1_000_000_007, since: 1_100_000_009, end: 1_200_000_011,
}

// template is the encoding of a look, and where what differs is in it.
type template struct {
	text  []byte
	holes []hole
}

type hole struct {
	at   int
	what uint8
}

func newTemplate(object Object, encoding Encoding) *template {
	text, err := Encode(object, encoding)
	if err != nil {
		panic(fmt.Sprintf("encoding a template: %v", err)) // API types always encode.
	}
	t := &template{text: text}
	for what, mark := range [][]byte{
		holeSuffix: []byte(marks.suffix), holeUID: []byte(marks.uid), holeVersion: []byte(marks.version), holeNode: []byte(marks.node),
		holePodIP: []byte(marks.podIP), holeHostIP: []byte(marks.hostIP), holeInstance: []byte(marks.instance),
		holeBorn: encodedTime(marks.born, encoding), holeSince: encodedTime(marks.since, encoding), holeEnd: encodedTime(marks.end, encoding),
	} {
		for at := 0; ; at += len(mark) {
			next := bytes.Index(text[at:], mark)
			if next < 0 {
				break
			}
			at += next
			t.holes = append(t.holes, hole{at, uint8(what)})
		}
	}
	return t
}

// encodedTime is a moment as an encoding has it: the same length for all moments from 1978 to 3058.
func encodedTime(seconds int64, encoding Encoding) []byte {
	if encoding == JSON {
		return time.Unix(seconds, 0).UTC().AppendFormat(nil, time.RFC3339)
	}
	return binary.AppendUvarint(nil, uint64(seconds))
}

// looks are the templates that have been made, by look and encoding.
type looks struct {
	mu   sync.RWMutex
	made map[uint64]*template
}

// of returns the template of a look, which make makes the first time.
func (l *looks) of(look uint64, encoding Encoding, make func() Object) *template {
	key := look*uint64(encodings) + uint64(encoding)
	l.mu.RLock()
	t := l.made[key]
	l.mu.RUnlock()
	if t != nil {
		return t
	}
	t = newTemplate(make(), encoding)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made == nil {
		l.made = map[uint64]*template{}
	}
	l.made[key] = t
	return t
}

// fill writes what is a row's own into a copy of its template.
func (c *Cluster) fill(text []byte, t *template, kind uint64, r rows.Row, encoding Encoding) {
	var uid [36]byte
	appendUID(uid[:0], c.salt, kind, uint64(r.Serial))
	for _, h := range t.holes {
		into := text[h.at:h.at]
		switch h.what {
		case holeSuffix:
			appendSuffix(into, r.Serial)
		case holeUID:
			copy(text[h.at:], uid[:])
		case holeVersion:
			appendDigits(into, r.Version, 10)
		case holeNode:
			appendDigits(into, uint64(nodeOf(kind, r)), 6)
		case holePodIP:
			appendAddress(into, 100, uint64(r.Serial))
		case holeHostIP:
			appendAddress(into, 200, uint64(nodeOf(kind, r)))
		case holeInstance:
			appendInstance(into, uid[:])
		case holeBorn:
			putTime(text[h.at:], r.Born, encoding)
		case holeSince:
			putTime(text[h.at:], r.Since, encoding)
		case holeEnd:
			putTime(text[h.at:], r.Ends, encoding)
		}
	}
}

// nodeOf is the number of the node that a row is or is on.
func nodeOf(kind uint64, r rows.Row) uint32 {
	if kind == uidNode {
		return r.Serial
	}
	return uint32(max(r.Node, 0))
}

func putTime(into []byte, seconds uint32, encoding Encoding) {
	if encoding == JSON {
		time.Unix(int64(seconds), 0).UTC().AppendFormat(into[:0], time.RFC3339)
		return
	}
	binary.PutUvarint(into, uint64(seconds))
}

func appendDigits(dst []byte, number uint64, n int) []byte {
	dst = append(dst, "0000000000"[:n]...)
	for i := len(dst) - 1; i >= len(dst)-n; i-- {
		dst[i] = '0' + byte(number%10)
		number /= 10
	}
	return dst
}

// suffixes is how many ends of names there are. scramble has no factor in common with it, so that serial numbers up to
// it have an end each.
const (
	suffixes = 27 * 27 * 27 * 27 * 27
	scramble = 5_915_587
)

func appendSuffix(dst []byte, serial uint32) []byte {
	return appendLetters(dst, uint64(serial)*scramble%suffixes, 5)
}

// appendAddress appends all of an address but its first part: three numbers of three digits.
func appendAddress(dst []byte, first, number uint64) []byte {
	dst = appendDigits(dst, first+number/10_000%50, 3)
	dst = append(dst, '.')
	dst = appendDigits(dst, 100+number/100%100, 3)
	dst = append(dst, '.')
	return appendDigits(dst, 100+number%100, 3)
}

// appendInstance makes the name that a cloud gives a machine of its UID.
func appendInstance(dst, uid []byte) []byte {
	for _, digit := range uid {
		if digit != '-' && len(dst) < len(marks.instance) {
			dst = append(dst, digit)
		}
	}
	return dst
}

// valuesOf are the values of a row, for making the object itself.
func (c *Cluster) valuesOf(kind uint64, r rows.Row) values {
	uid := appendUID(nil, c.salt, kind, uint64(r.Serial))
	return values{
		suffix: string(appendSuffix(nil, r.Serial)), uid: string(uid), version: rows.FormatVersion(r.Version),
		node:     string(appendDigits(nil, uint64(nodeOf(kind, r)), 6)),
		podIP:    string(appendAddress(nil, 100, uint64(r.Serial))),
		hostIP:   string(appendAddress(nil, 200, uint64(nodeOf(kind, r)))),
		instance: string(appendInstance(nil, uid)),
		born:     int64(r.Born), since: int64(r.Since), end: int64(r.Ends),
	}
}
