package rows

import "k8s.io/apimachinery/pkg/runtime"

// Row is one object in numbers. What they mean is for the Maker of its table to say.
type Row struct {
	Version uint64 // the resource version of its last change
	Serial  uint32 // tells it from all others of its table: name and UID are made from it
	Born    uint32 // when it was created, Unix seconds, as all times here
	Since   uint32 // of a pod: when it got into its state; of a node: its last heartbeat
	Ends    uint32 // when it is to be gone at the latest; 0: it stays
	Node    int32  // of a pod: the number of its node, -1 for none
	Shape   uint16 // what the object looks like
	State   uint8  // what it has got to
	Flags   uint8
}

// Item is an object at one version: made from its row or, if Object is set, that object. Nobody changes an Object that is in
// an Item.
type Item struct {
	Row
	Object runtime.Object
}

// Maker gives rows their names. Names order a table, and are asked for often: they are appended to what the caller has.
type Maker interface {
	Namespace(Row) string
	AppendName(dst []byte, r Row) []byte
}

// EventType is what became of an object.
type EventType uint8

// The types of events.
const (
	Added EventType = iota
	Modified
	Deleted
)

// Event is one change. Before is what the object was until then; of an added one it is the same as Now.
type Event struct {
	Type        EventType
	Now, Before Item
}

// Version is the resource version of the change.
func (e *Event) Version() uint64 { return e.Now.Version }
