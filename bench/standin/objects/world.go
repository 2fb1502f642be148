package objects

import (
	"fmt"
	"math/rand/v2"

	"k8s.io/apimachinery/pkg/types"
)

// World is what all clusters of one seed have in common: namespaces, the applications whose pods run there, and sizes of
// nodes. It does not change.
type World struct {
	Options
	Namespaces []string
	apps       []app
	sizes      []size
	looks      looks
}

// Options say how objects look.
type Options struct {
	Seed uint64
	// UniqueLabels gives each node labels that no other has, as TopoLVM and eksctl do.
	UniqueLabels bool
	// Lean leaves out what weighs and nobody reads: managedFields and the images of nodes.
	Lean bool
}

// Numbers of a world. The applications that fit no node come last.
const (
	namespaces = 20
	fitting    = 180
	oversized  = 4
)

// Amounts are what a pod asks for, or a node has.
type Amounts struct {
	MilliCPU int32
	MemoryMi int32
	Pods     int32
}

// Plus and Minus add and subtract.
func (a Amounts) Plus(b Amounts) Amounts {
	return Amounts{a.MilliCPU + b.MilliCPU, a.MemoryMi + b.MemoryMi, a.Pods + b.Pods}
}

// Minus subtracts.
func (a Amounts) Minus(b Amounts) Amounts {
	return Amounts{a.MilliCPU - b.MilliCPU, a.MemoryMi - b.MemoryMi, a.Pods - b.Pods}
}

// Covers reports whether b is no more than a.
func (a Amounts) Covers(b Amounts) bool {
	return a.MilliCPU >= b.MilliCPU && a.MemoryMi >= b.MemoryMi && a.Pods >= b.Pods
}

// app is an application: the look of its pods.
type app struct {
	namespace, name, hash string
	labels                map[string]string
	asks                  Amounts
}

// size is a kind of machine.
type size struct {
	instance string
	has      Amounts
}

// NewWorld makes the world of a seed.
func NewWorld(o Options) *World {
	w := &World{Options: o, sizes: []size{
		{"standin.large", Amounts{16_000, 64 << 10, 110}},
		{"standin.xlarge", Amounts{32_000, 128 << 10, 110}},
		{"standin.medium", Amounts{8_000, 32 << 10, 110}},
	}}
	for i := range namespaces {
		w.Namespaces = append(w.Namespaces, fmt.Sprintf("team-%02d", i))
	}
	random := rand.New(rand.NewPCG(o.Seed, 1))
	for i := range fitting + oversized {
		w.apps = append(w.apps, w.newApp(i, random))
	}
	return w
}

// cpus are what pods ask for: many small ones, few large ones. Their mean is a tenth of the mean node.
var cpus = []int32{100, 100, 250, 250, 250, 500, 500, 500, 1000, 1000, 2000, 4000}

func (w *World) newApp(i int, random *rand.Rand) app {
	a := app{
		namespace: w.Namespaces[random.IntN(len(w.Namespaces))],
		name:      fmt.Sprintf("app-%03d", i),
		hash:      letters(random.Uint64(), 10),
		asks:      Amounts{MilliCPU: cpus[random.IntN(len(cpus))], Pods: 1},
	}
	a.asks.MemoryMi = a.asks.MilliCPU << random.IntN(3) // 1 to 4 GiB a CPU.
	if i >= fitting {
		a.name, a.asks = fmt.Sprintf("big-%03d", i), Amounts{256_000, 2 << 20, 1}
	}
	a.labels = map[string]string{
		"app.kubernetes.io/name": a.name, "app.kubernetes.io/part-of": "system-" + letters(random.Uint64(), 2),
		"pod-template-hash": a.hash, "tier": []string{"web", "work", "data"}[random.IntN(3)],
	}
	return a
}

// alphabet is that of generated names.
const alphabet = "bcdfghjklmnpqrstvwxz2456789"

// letters are n letters of a number.
func letters(number uint64, n int) string { return string(appendLetters(nil, number, n)) }

func appendLetters(dst []byte, number uint64, n int) []byte {
	for range n {
		dst = append(dst, alphabet[number%uint64(len(alphabet))])
		number /= uint64(len(alphabet))
	}
	return dst
}

// PodShapes is how many looks pods have that fit on nodes, and how many that fit nowhere.
func (w *World) PodShapes() (fit, none int) { return fitting, oversized }

// Asks are what a pod of a look asks for.
func (w *World) Asks(shape uint16) Amounts { return w.apps[shape].asks }

// NodeShapes is how many sizes nodes have.
func (w *World) NodeShapes() int { return len(w.sizes) }

// Has are what a node of a size has.
func (w *World) Has(shape uint16) Amounts { return w.sizes[shape].has }

// mix is a step of SplitMix64 (Steele, Lea and Flood, OOPSLA'14): numbers that look random, of numbers that do not.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Cluster makes the objects of one cluster.
type Cluster struct {
	*World
	Index int
	salt  uint64
}

// NewCluster returns the maker of a cluster's objects.
func (w *World) NewCluster(index int) *Cluster {
	return &Cluster{World: w, Index: index, salt: mix(w.Seed ^ uint64(index)<<32)}
}

// The kinds that UIDs are made for.
const (
	uidPod = iota + 1
	uidNode
	uidNamespace
	uidOwner
)

const hex = "0123456789abcdef"

// appendUID makes a UID.
func appendUID(dst []byte, salt, kind, serial uint64) []byte {
	a := mix(salt ^ kind<<56 ^ serial)
	b := mix(a)
	for i := range 32 {
		switch i {
		case 8, 12, 16, 20:
			dst = append(dst, '-')
		}
		n := a
		if i >= 16 {
			n = b
		}
		digit := hex[n>>(4*(i%16))&15]
		switch i {
		case 12:
			digit = '4' // As random ones have it,
		case 16:
			digit = hex[8|n&3] // and their variant.
		}
		dst = append(dst, digit)
	}
	return dst
}

// NamespaceUID is the UID of a namespace that is there from the start.
func (c *Cluster) NamespaceUID(name string) types.UID {
	sum := uint64(0)
	for _, char := range []byte(name) {
		sum = mix(sum ^ uint64(char))
	}
	return types.UID(appendUID(nil, c.salt, uidNamespace, sum))
}
