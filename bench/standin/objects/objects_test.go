package objects

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

func cluster(seed uint64, lean bool) *Cluster {
	return NewWorld(Options{Seed: seed, UniqueLabels: true, Lean: lean}).NewCluster(int(seed) % 5)
}

// someRows are rows of every look.
func someRows(c *Cluster, pods bool) (all []rows.Row) {
	random := rand.New(rand.NewPCG(c.Seed, 9))
	now := uint32(time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC).Unix())
	fit, none := c.PodShapes()
	for range 400 {
		r := rows.Row{
			Version: rows.FirstVersion + random.Uint64N(1e9), Serial: uint32(random.IntN(900_000)), Born: now - uint32(random.IntN(1e6)), Since: now - uint32(random.IntN(1e4)),
			Ends: now + 30, Node: -1, Shape: uint16(random.IntN(c.NodeShapes())),
		}
		if pods {
			r.Shape, r.State = uint16(random.IntN(fit+none)), uint8(random.IntN(PodEnding+1))
			if r.State >= PodBound {
				r.Node = int32(random.IntN(500_000))
			}
		}
		all = append(all, r)
	}
	return all
}

// What a client decodes is the object that the row stands for, in both encodings, to the last byte.
func TestEncodingsAreTheObjects(t *testing.T) {
	t.Parallel()
	for _, lean := range []bool{true, false} {
		c := cluster(3, lean)
		for kind, maker := range map[string]Maker{"node": Nodes{c}, "pod": Pods{c}} {
			for _, r := range someRows(c, kind == "pod") {
				want := maker.Object(r)
				for encoding, decode := range map[Encoding]func([]byte, Object) error{
					JSON: func(data []byte, into Object) error { return json.Unmarshal(data, into) },
					Protobuf: func(data []byte, into Object) error {
						return into.(interface{ Unmarshal([]byte) error }).Unmarshal(data)
					},
				} {
					data := maker.Append([]byte("before"), r, encoding)[6:]
					exact, err := Encode(want, encoding)
					if err != nil {
						t.Fatal(err)
					}
					if string(data) != string(exact) {
						t.Fatalf("%s %+v, encoding %d: the template says\n%q, the object\n%q", kind, r, encoding, data, exact)
					}
					if len(data) != maker.Size(r, encoding) {
						t.Fatalf("%s %+v: %d bytes, and %d announced", kind, r, len(data), maker.Size(r, encoding))
					}
					got := Object(&corev1.Pod{})
					if kind == "node" {
						got = &corev1.Node{}
					}
					if err := decode(data, got); err != nil {
						t.Fatal(err)
					}
					if !equality.Semantic.DeepEqual(want, got) {
						t.Fatal(cmp.Diff(want, got))
					}
				}
			}
		}
	}
}

// Names, labels and fields that are told without making the object are those of the object.
func TestShortAnswersAgree(t *testing.T) {
	t.Parallel()
	c := cluster(4, true)
	for kind, maker := range map[string]Maker{"node": Nodes{c}, "pod": Pods{c}} {
		for _, r := range someRows(c, kind == "pod") {
			object := maker.Object(r)
			if name := string(maker.AppendName(nil, r)); name != object.GetName() || len(validation.IsDNS1123Subdomain(name)) > 0 {
				t.Errorf("%s is named %s, and its row %s", kind, object.GetName(), name)
			}
			if maker.Namespace(r) != object.GetNamespace() {
				t.Errorf("%s is in %s", object.GetName(), object.GetNamespace())
			}
			if diff := cmp.Diff(object.GetLabels(), map[string]string(maker.Labels(r))); diff != "" {
				t.Error(diff)
			}
			if pod, ok := object.(*corev1.Pod); ok {
				for field, want := range map[string]string{"spec.nodeName": pod.Spec.NodeName, "status.phase": string(pod.Status.Phase), "metadata.name": pod.Name} {
					if got, ok := maker.Field(r, field); got != want || !ok {
						t.Errorf("%s of %s: %q, not %q", field, pod.Name, got, want)
					}
				}
			}
		}
	}
}

// The same seed gives the same objects, another one does not.
func TestSeeds(t *testing.T) {
	t.Parallel()
	all := func(seed uint64, index int) string {
		c := NewWorld(Options{Seed: seed}).NewCluster(index)
		var text []byte
		for _, r := range someRows(cluster(3, true), true) { // The same rows for all.
			text = Pods{c}.Append(text, r, JSON)
		}
		return string(text)
	}
	one, again := all(1, 1), all(1, 1)
	if one != again {
		t.Error("the same seed, and not the same")
	}
	if one == all(2, 1) || one == all(1, 2) {
		t.Error("another seed or cluster, and the same")
	}
}

// No two pods of a cluster share name or UID.
func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	c := cluster(1, true)
	for serial := range uint32(100_000) {
		name := string(appendSuffix(nil, serial))
		uid := string(appendUID(nil, c.salt, uidPod, uint64(serial)))
		if seen[name] || seen[uid] {
			t.Fatal("twice:", name, uid)
		}
		seen[name], seen[uid] = true, true
		if parts := strings.Split(uid, "-"); len(parts) != 5 || len(uid) != 36 {
			t.Fatal(uid)
		}
	}
	labels := map[string]int{}
	for _, r := range someRows(c, false) {
		labels[Nodes{c}.Labels(r)[labelEKS]]++
	}
	if len(labels) < 390 {
		t.Errorf("%d labels of 400 nodes", len(labels))
	}
}

func TestMixOfSizes(t *testing.T) {
	t.Parallel()
	w := NewWorld(Options{Seed: 1})
	fit, none := w.PodShapes()
	var asked []int32
	for shape := range fit {
		asked = append(asked, w.Asks(uint16(shape)).MilliCPU)
		if !w.Has(2).Covers(w.Asks(uint16(shape))) {
			t.Errorf("look %d fits not even an empty node", shape)
		}
	}
	for shape := fit; shape < fit+none; shape++ {
		if w.Has(1).Covers(w.Asks(uint16(shape))) {
			t.Errorf("look %d fits a node", shape)
		}
	}
	if slices.Max(asked) == slices.Min(asked) {
		t.Error("all alike")
	}
}

// What an object costs that is listed or sent, and what it would cost without templates.
func BenchmarkEncoding(b *testing.B) {
	c := cluster(1, false)
	for name, maker := range map[string]Maker{"pod": Pods{c}, "node": Nodes{c}} {
		r := rows.Row{Version: rows.FirstVersion, Serial: 7, Born: 1_800_000_000, Since: 1_800_000_000, State: PodRunning}
		for form, encoding := range map[string]Encoding{"protobuf": Protobuf, "json": JSON} {
			b.Run(name+"/"+form+"/template", func(b *testing.B) {
				buffer := maker.Append(nil, r, encoding)
				b.ReportAllocs()
				for b.Loop() {
					buffer = maker.Append(buffer[:0], r, encoding)
				}
				b.ReportMetric(float64(len(buffer)), "bytes/object")
			})
			b.Run(name+"/"+form+"/marshal", func(b *testing.B) {
				object := maker.Object(r)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Encode(object, encoding); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
