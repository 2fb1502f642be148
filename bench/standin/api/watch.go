package api

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// Times of watches, as a real API server has them.
const (
	bookmarkInterval = time.Minute
	shortestWatch    = 30 * time.Minute // of those that name no time; some are twice as long
)

// batch is how many events are read at once.
const batch = 256

// stream is a watch that is being answered.
type stream struct {
	*call
	*selection
	types  preamble
	buffer []byte
	events []rows.Event
}

// watch answers with what happens.
func (c *call) watch(o *internalversion.ListOptions, selected *selection) error {
	s := &stream{call: c, selection: selected, types: newPreamble(c.GroupVersionKind)}
	version, _ := strconv.ParseUint(o.ResourceVersion, 10, 64) // It was checked.
	initial := o.SendInitialEvents != nil && *o.SendInitialEvents
	if initial {
		if err := c.reach(version); err != nil {
			return err
		}
	}
	picture, cursor, err := c.beginning(version, o.SendInitialEvents)
	if cursor != nil {
		defer cursor.Close()
	}
	c.Counts.Opened.Add(1)
	c.Counts.Watches.Add(1)
	defer c.Counts.Watches.Add(-1)
	c.w.Header().Set("Content-Type", streamType(c.encoding))
	c.w.WriteHeader(http.StatusOK)
	if errors.Is(err, rows.ErrExpired) {
		s.tellExpired(version)
		return nil
	}
	if !s.flush() || picture != nil && !s.begin(picture, initial) {
		return nil
	}
	length := shortestWatch + rand.N(shortestWatch)
	if o.TimeoutSeconds != nil && *o.TimeoutSeconds > 0 {
		length = time.Duration(*o.TimeoutSeconds) * time.Second
	}
	s.follow(cursor, length, o.AllowWatchBookmarks)
	return nil
}

// beginning is where a watch begins, with what there is if it is to tell that first.
func (c *call) beginning(version uint64, initial *bool) (*rows.Picture, *rows.Cursor, error) {
	if version > 0 && (initial == nil || !*initial) {
		cursor, err := c.Watch(version)
		return nil, cursor, err
	}
	picture, cursor := c.Begin(c.namespace)
	if initial != nil && !*initial {
		picture = nil
	}
	return picture, cursor, nil
}

func streamType(encoding objects.Encoding) string {
	if encoding == objects.JSON {
		return contentType(encoding)
	}
	return contentType(encoding) + ";stream=watch"
}

// begin sends what there is. It reports whether the client still reads.
func (s *stream) begin(picture *rows.Picture, mark bool) bool {
	for i := range picture.Items {
		item := &picture.Items[i]
		if !s.all() && !s.takes(item) {
			continue
		}
		s.send(watch.Added, item)
		s.Counts.Initial.Add(1)
		if len(s.buffer) > chunk && !s.drain() {
			return false
		}
	}
	if mark {
		s.bookmark(picture.Version, map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return s.drain() && s.flush()
}

// follow sends what happens until the watch ends.
func (s *stream) follow(cursor *rows.Cursor, length time.Duration, bookmarks bool) {
	s.buffer = nil // What the beginning needed is not needed any more.
	end := time.NewTimer(length)
	defer end.Stop()
	marks := time.NewTicker(bookmarkInterval)
	defer marks.Stop()
	if !bookmarks {
		marks.Stop()
	}
	for {
		events, version, moved, err := cursor.Read(s.batch())
		if err != nil {
			return // As a real one ends the watches of clients that are too slow.
		}
		s.tell(events)
		if moved == nil {
			if len(s.buffer) > chunk && !s.drain() {
				return
			}
			continue
		}
		if !s.pass() {
			return
		}
		select {
		case <-moved:
		case <-marks.C:
			s.bookmark(version, nil)
			s.Counts.Bookmarks.Add(1) // It goes out with the next look, which is at once.
		case <-end.C:
			return
		case <-s.r.Context().Done():
			return
		case <-s.Stop:
			return
		}
	}
}

// batch is an empty slice for events.
func (s *stream) batch() []rows.Event {
	if s.events == nil {
		s.events = make([]rows.Event, 0, 8)
	}
	if len(s.events) == cap(s.events) && cap(s.events) < batch {
		s.events = make([]rows.Event, 0, 4*cap(s.events))
	}
	return s.events[:0]
}

// tell appends those events that concern the watch, as what they are for it.
func (s *stream) tell(events []rows.Event) {
	s.events = events
	sent := int64(0)
	for i := range events {
		e := &events[i]
		now, before := e.Type != rows.Deleted, e.Type != rows.Added
		if !s.all() {
			now, before = now && s.takes(&e.Now), before && s.takes(&e.Before)
		} else if s.namespace != "" && s.Namespace(&e.Now) != s.namespace {
			continue
		}
		switch {
		case now && before:
			s.send(watch.Modified, &e.Now)
		case now:
			s.send(watch.Added, &e.Now)
		case before:
			s.send(watch.Deleted, last(e))
		default:
			continue
		}
		sent++
	}
	s.Counts.Events.Add(sent)
}

// last is what an object was before it was deleted, or ceased to be selected, with the version of that.
func last(e *rows.Event) *rows.Item {
	item := e.Before
	item.Version = e.Now.Version
	if item.Object != nil {
		object := item.Object.DeepCopyObject()
		object.(objects.Object).SetResourceVersion(rows.FormatVersion(item.Version))
		item.Object = object
	}
	return &item
}

// send appends an event.
func (s *stream) send(event watch.EventType, item *rows.Item) {
	if item.Object == nil {
		s.buffer = frame(s.buffer, string(event), s.types, s.encoding, s.Maker.Size(item.Row, s.encoding), func(dst []byte) []byte {
			return s.Maker.Append(dst, item.Row, s.encoding)
		})
		return
	}
	raw, err := objects.EncodeItem(item, s.encoding)
	if err != nil {
		panic(err) // API types always encode.
	}
	s.sendRaw(event, s.types, raw)
}

func (s *stream) sendRaw(event watch.EventType, t preamble, raw []byte) {
	s.buffer = frame(s.buffer, string(event), t, s.encoding, len(raw), func(dst []byte) []byte { return append(dst, raw...) })
}

func (s *stream) bookmark(version uint64, annotations map[string]string) {
	object := s.make()
	object.SetResourceVersion(rows.FormatVersion(version))
	object.SetAnnotations(annotations)
	raw, err := objects.Encode(object, s.encoding)
	if err != nil {
		panic(err)
	}
	s.sendRaw(watch.Bookmark, s.types, raw)
}

// tellExpired says that a watch cannot begin where it is to.
func (s *stream) tellExpired(version uint64) {
	status := apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", version, s.Oldest())).Status()
	raw, err := encode(&status, s.encoding)
	if err != nil {
		panic(err)
	}
	s.sendRaw(watch.Error, newPreamble(schema.GroupVersionKind{Version: "v1", Kind: "Status"}), raw)
	s.drain()
}

// drain writes what was appended, and reports whether the client still reads.
func (s *stream) drain() bool {
	ok := s.write(s.buffer)
	s.buffer = s.buffer[:0]
	return ok
}

// pass hands over what was appended, if anything was.
func (s *stream) pass() bool { return len(s.buffer) == 0 || s.drain() && s.flush() }

func (s *stream) flush() bool {
	return http.NewResponseController(s.w).Flush() == nil
}
