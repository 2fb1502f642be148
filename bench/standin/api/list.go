package api

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// How long a list waits for a version that is not there yet.
const patience = 3 * time.Second

// chunk is how many bytes are written at once.
const chunk = 64 << 10

func (c *call) listOrWatch() error {
	options, err := c.options(c.r.URL.Query())
	if err != nil {
		return err
	}
	selected, err := c.selection(options)
	if err != nil {
		return err
	}
	if options.Watch {
		return c.watch(options, selected)
	}
	c.Counts.Lists.Add(1)
	return c.list(options, selected)
}

// token says where a list goes on, as a real API server's tokens do.
type token struct {
	API     string `json:"v"`
	Version uint64 `json:"rv"`
	Start   string `json:"start"` // namespace/name of the first object that is not listed yet
}

const tokenAPI = "meta.k8s.io/v1"

func (t token) String() string {
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // Two strings and a number always encode.
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseToken(text string) (t token, err error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err != nil || t.API != tokenAPI {
		return t, apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: continue key is not valid: %v", err))
	}
	return t, nil
}

// list answers with what there is.
func (c *call) list(o *internalversion.ListOptions, selected *selection) error {
	picture, from, err := c.pictureFor(o)
	if err != nil {
		return err
	}
	if o.ResourceVersion == "0" {
		o.Limit = 0 // What a watch cache answers is not cut.
	}
	var items []*rows.Item
	rest := 0
	next := token{API: tokenAPI, Version: picture.Version}
	for i := from; i < len(picture.Items); i++ {
		item := &picture.Items[i]
		switch {
		case !selected.all() && !selected.takes(item):
		case o.Limit > 0 && int64(len(items)) >= o.Limit:
			if rest == 0 {
				next.Start = c.Namespace(item) + "/" + c.Table.Name(item)
			}
			rest++
		default:
			items = append(items, item)
		}
	}
	meta := metav1.ListMeta{ResourceVersion: rows.FormatVersion(picture.Version)}
	if rest > 0 {
		c.Keep(picture)
		meta.Continue = next.String()
		if selected.all() { // A real one does not know it otherwise.
			meta.RemainingItemCount = new(int64(rest))
		}
	}
	return c.writeList(meta, items)
}

// pictureFor is what a list is made from, and where in it the list begins.
func (c *call) pictureFor(o *internalversion.ListOptions) (picture *rows.Picture, from int, err error) {
	if o.Continue != "" {
		t, err := parseToken(o.Continue)
		if err != nil {
			return nil, 0, err
		}
		picture, ok := c.Kept(t.Version, c.namespace)
		if !ok {
			return nil, 0, apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
				"You can start a new list without the continue parameter.")
		}
		namespace, name, _ := strings.Cut(t.Start, "/")
		return picture, picture.From(namespace, name), nil
	}
	version, _ := strconv.ParseUint(o.ResourceVersion, 10, 64) // It was checked.
	if err := c.reach(version); err != nil {
		return nil, 0, err
	}
	exact := o.ResourceVersionMatch == metav1.ResourceVersionMatchExact || o.ResourceVersionMatch == "" && o.Limit > 0 && version > 0
	if kept, ok := c.Kept(version, c.namespace); exact && ok {
		return kept, 0, nil
	}
	picture = c.Picture(c.namespace)
	if exact && picture.Version != version {
		return nil, 0, apierrors.NewResourceExpired("The provided resource version is too old: " +
			"the stand-in keeps lists in pages, and no history of its objects.")
	}
	return picture, 0, nil
}

// reach waits until the cluster is at a version.
func (c *call) reach(version uint64) error {
	for ended := time.Now().Add(patience); c.Store.Version() < version; {
		if time.Now().After(ended) || c.r.Context().Err() != nil {
			err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", version, c.Store.Version()), 1)
			err.ErrStatus.Details.Causes = []metav1.StatusCause{{
				Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
			}}
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// writeList writes a list without having all of it in memory.
func (c *call) writeList(meta metav1.ListMeta, items []*rows.Item) error {
	encoded := map[int][]byte{} // Those that are objects: their length is not known before.
	for i, item := range items {
		if item.Object != nil {
			raw, err := objects.EncodeItem(item, c.encoding)
			if err != nil {
				return err
			}
			encoded[i] = raw
		}
	}
	buffer, end, err := c.listHead(meta, items, encoded)
	if err != nil {
		return err
	}
	c.Counts.Listed.Add(int64(len(items)))
	c.w.Header().Set("Content-Type", contentType(c.encoding))
	c.w.WriteHeader(http.StatusOK)
	for i, item := range items {
		raw, size := encoded[i], 0
		if c.encoding == objects.Protobuf {
			if size = len(raw); raw == nil {
				size = c.Maker.Size(item.Row, c.encoding)
			}
			buffer = appendField(buffer, 2, size)
		} else if i > 0 {
			buffer = append(buffer, ',')
		}
		if raw != nil {
			buffer = append(buffer, raw...)
		} else {
			buffer = c.Maker.Append(buffer, item.Row, c.encoding)
		}
		if len(buffer) > chunk {
			if !c.write(buffer) {
				return nil
			}
			buffer = buffer[:0]
		}
	}
	c.write(append(buffer, end...))
	return nil
}

// listHead is what stands before the items of a list, and what behind.
func (c *call) listHead(meta metav1.ListMeta, items []*rows.Item, encoded map[int][]byte) (head []byte, end string, err error) {
	t := listPreamble(c.GroupVersionKind)
	raw, err := encode(&meta, c.encoding)
	if err != nil {
		return nil, "", err
	}
	if c.encoding == objects.JSON {
		head = append(append(append(head, t.json...), `,"metadata":`...), raw...)
		return append(head, `,"items":[`...), "]}\n", nil
	}
	size := fieldSize(len(raw))
	for i, item := range items {
		if raw, ok := encoded[i]; ok {
			size += fieldSize(len(raw))
		} else {
			size += fieldSize(c.Maker.Size(item.Row, c.encoding))
		}
	}
	c.w.Header().Set("Content-Length", strconv.Itoa(t.wrappedSize(size)))
	head = append(head, t.protobuf...)
	head = binary.AppendUvarint(append(head, 2<<3|2), uint64(size))
	return append(appendField(head, 1, len(raw)), raw...), unknownEnd, nil
}

// write reports whether the client still reads.
func (c *call) write(data []byte) bool {
	n, err := c.w.Write(data)
	c.Counts.Bytes.Add(int64(n))
	return err == nil
}
