package house_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// parts are the four daemons. They meet through API servers and HTTP, never through imports.
var parts = []string{"extender", "virtualnode", "admission", "rebalance"}

// level gives the height of a package in the one-way order
//
//	keys <- snapshot, translate, entry, tombstone <- wire, exact, lower, serve <- ask <- the four parts, cli <- main.go
//
// and false for packages outside it (bench, manifests, house).
func level(short string) (int, bool) {
	switch first, _, _ := strings.Cut(strings.TrimPrefix(short, "internal/"), "/"); {
	case short == "":
		return 5, true
	case slices.Contains(parts, first), first == "cli":
		return 4, true
	case first == "ask":
		return 3, true
	case first == "wire", first == "exact", first == "lower", first == "registry", first == "serve":
		return 2, true
	case first == "snapshot", first == "translate", first == "entry", first == "tombstone", first == "history":
		return 1, true
	case first == "keys":
		return 0, true
	}
	return 0, false
}

// inFolder reports whether an import path lies in the folder prefix.
func inFolder(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// branch is the folder a package belongs to: the part, or the folder under internal.
func branch(short string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(short, "internal/"), "/")
	return first
}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		from, ordered := level(p.short())
		for _, path := range p.Imports {
			if !inFolder(path, module) {
				continue
			}
			imported := listed{ImportPath: path}.short()
			to, known := level(imported)
			switch {
			case !ordered || branch(p.short()) == branch(imported):
			case inFolder(imported, "bench"):
				t.Errorf("%s imports %s: the product never needs what measures it", p.short(), imported)
			case known && to >= from:
				t.Errorf("%s imports %s: imports go one way, keys <- snapshot, translate, entry, tombstone, history <- "+
					"wire, exact, lower, registry, serve <- ask <- the four parts, cli <- main.go; "+
					"what two folders of one level need moves down", p.short(), imported)
			}
		}
	}
}

// forbidden is one rule: packages in the folder from do not import anything in the folders to.
type forbidden struct {
	from   string   // "" is every package
	except []string // folders that may
	to     []string
	tests  bool // holds for tests too
	reason string
}

var rules = []forbidden{
	{from: "internal/snapshot", to: outside, reason: "the core decides and the edges do I/O: pass now, a seed and objects in, return values"},
	{from: "internal/translate", to: outside, reason: "the core decides and the edges do I/O: pass now, a seed and objects in, return values"},
	{from: "internal/entry", to: outside, reason: "the core decides and the edges do I/O: pass now, a seed and objects in, return values"},
	{from: "internal/wire", to: outside, reason: "what is sent and answered is read without I/O, so that it is fuzzed in seconds"},
	{from: "internal/keys", to: outside, reason: "constants only, so that importing them drags in nothing"},
	{from: "internal/cli", to: inModule(parts...), tests: true, reason: "the command line speaks HTTP and client-go like any other client"},
	{from: "bench/lab", to: inModule(parts...), tests: true, reason: "the lab runs the product binary, as users do, and the parts' tests import the lab"},
	{from: "bench/standin", to: inModule(append([]string{"internal/lower", "internal/registry", "internal/snapshot", "internal/translate",
		"internal/serve", "internal/cli"}, parts...)...),
		tests: true, reason: "the stand-in is another side of the API: what is measured on it must not be in it"},
	{from: "bench/frag", to: inModule(append([]string{"internal/lower", "internal/serve", "internal/cli"}, parts...)...),
		reason: "the simulation runs the production decisions and nothing else of the product"},
	{except: []string{"internal/exact", "bench/planes"}, to: []string{"k8s.io/kubernetes/pkg/scheduler"}, tests: true,
		reason: "its interfaces change with every minor version: internal/exact is the one place to repair"},
	{except: []string{"bench/planes"}, to: controlPlane, tests: true,
		reason: "bench/planes alone links control planes: everything else builds in seconds without it"},
	{to: inModule("bench/planes"), tests: true, reason: "bench/planes is a program: bench/lab builds and runs it"},
	{except: []string{"extender"}, to: []string{"github.com/gin-gonic/gin"}, tests: true, reason: "one home per big dependency"},
	{except: []string{"virtualnode"}, to: []string{"github.com/virtual-kubelet/virtual-kubelet"}, tests: true, reason: "one home per big dependency"},
}

// outside is what the pure packages stay away from.
var outside = []string{"k8s.io/client-go", "log", "os", "net", "io/fs", "math/rand", "crypto/rand", "sync", "github.com/gin-gonic/gin",
	"github.com/prometheus/client_golang"}

// values are packages in those folders that compute and do nothing else.
var values = []string{"net/netip", "net/url"}

// controlPlane is what a control plane is made of.
var controlPlane = []string{"k8s.io/kubernetes/cmd", "k8s.io/kubernetes/pkg/kubelet", "go.etcd.io/etcd/server/v3", "sigs.k8s.io/kwok"}

func inModule(folders ...string) []string {
	var paths []string
	for _, folder := range folders {
		paths = append(paths, module+"/"+folder)
	}
	return paths
}

func TestForbiddenImports(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, rule := range rules {
			if !rule.covers(p.short()) {
				continue
			}
			imports := p.Imports
			if rule.tests {
				imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
			}
			for _, path := range slices.Compact(slices.Sorted(slices.Values(imports))) {
				if !slices.Contains(values, path) && slices.ContainsFunc(rule.to, func(folder string) bool { return inFolder(path, folder) }) {
					t.Errorf("%s imports %s: %s", p.short(), path, rule.reason)
				}
			}
		}
	}
}

func (r forbidden) covers(short string) bool {
	if slices.ContainsFunc(r.except, func(folder string) bool { return inFolder(short, folder) }) {
		return false
	}
	return r.from == "" || inFolder(short, r.from)
}

// The pure packages are told the time. A clock read inside would make the simulation, the golden tests and the
// production decisions three different things.
func TestPurePackagesReadNoClock(t *testing.T) {
	t.Parallel()
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}
	for _, file := range goFiles(t) {
		pure := slices.ContainsFunc([]string{"internal/snapshot", "internal/translate", "internal/entry", "internal/wire", "internal/keys"},
			func(folder string) bool { return inFolder(file.path, folder) })
		timeName := file.importName("time")
		if !pure || file.isTest() || timeName == "" {
			continue
		}
		ast.Inspect(file.File, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if name, ok := selector.X.(*ast.Ident); ok && name.Name == timeName && slices.Contains(clock, selector.Sel.Name) {
				t.Errorf("%s: time.%s in a pure package: pass now in", file.at(selector), selector.Sel.Name)
			}
			return true
		})
	}
}
