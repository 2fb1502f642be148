package house_test

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const prometheusPath = "github.com/prometheus/client_golang/prometheus"

// metric is one metric as the source declares it.
type metric struct{ place, kind, name, help string }

// Metric names are an interface that dashboards and alerts hang on: https://prometheus.io/docs/practices/naming/.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	wellFormed := regexp.MustCompile(`^tessera_[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	for _, m := range metrics(t) {
		switch suffix := m.name[strings.LastIndex(m.name, "_")+1:]; {
		case m.name == "":
			t.Errorf("%s: the name of a metric is a literal, so that it can be found by searching", m.place)
		case !wellFormed.MatchString(m.name):
			t.Errorf("%s: metric %q: tessera_ and lower-case words with underscores", m.place, m.name)
		case (suffix == "total") != (m.kind == "Counter"):
			t.Errorf("%s: metric %q is a %s: counters end in _total, and nothing else does", m.place, m.name, m.kind)
		case (m.kind == "Histogram" || m.kind == "Summary") && !slices.Contains([]string{"seconds", "bytes", "ratio"}, suffix):
			t.Errorf("%s: metric %q: a %s ends in its base unit, _seconds, _bytes or _ratio", m.place, m.name, m.kind)
		case slices.Contains([]string{"count", "sum", "bucket", "milliseconds", "ms", "minutes", "kilobytes", "megabytes", "percent"}, suffix):
			t.Errorf("%s: metric %q: no _%s: base units, and no suffix that Prometheus adds itself", m.place, m.name, suffix)
		case m.help == "":
			t.Errorf("%s: metric %q has no Help", m.place, m.name)
		}
	}
}

// asAKubelet are where metrics have the names that kubelets give them, so that what reads kubelets reads them.
const asAKubelet = "virtualnode/usage/"

// metrics finds prometheus.KINDOpts{Name:, Help:} and prometheus.NewDesc(name, help, ...).
func metrics(t *testing.T) []metric {
	t.Helper()
	var found []metric
	for _, file := range goFiles(t) {
		if file.isTest() || file.importName(prometheusPath) == "" || strings.HasPrefix(file.path, asAKubelet) {
			continue
		}
		ast.Inspect(file.File, func(node ast.Node) bool {
			literal, ok := node.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if name, ok := selected(literal.Type, file.importName(prometheusPath)); ok {
				if kind, isOpts := strings.CutSuffix(name, "Opts"); isOpts && slices.Contains([]string{"Counter", "Gauge", "Histogram", "Summary"}, kind) {
					found = append(found, fromOpts(file, literal, kind))
				}
			}
			return true
		})
		for _, call := range callsOf(file, prometheusPath, "NewDesc") {
			found = append(found, metric{place: file.at(call), kind: descKind(call), name: text(call.Args[0]), help: text(call.Args[1])})
		}
	}
	return found
}

// descKind guesses the kind of a NewDesc, which is given only when a value is sent.
func descKind(call *ast.CallExpr) string {
	if strings.HasSuffix(text(call.Args[0]), "_total") {
		return "Counter"
	}
	return "Gauge"
}

func fromOpts(file goFile, literal *ast.CompositeLit, kind string) metric {
	fields := map[string]string{}
	for _, element := range literal.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok {
				fields[key.Name] = text(pair.Value)
			}
		}
	}
	var words []string
	for _, word := range []string{fields["Namespace"], fields["Subsystem"], fields["Name"]} {
		if word != "" {
			words = append(words, word)
		}
	}
	return metric{place: file.at(literal), kind: kind, name: strings.Join(words, "_"), help: fields["Help"]}
}

// text is the value of a string literal, also of one put together with +; "" for anything else.
func text(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if value, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return value
		}
	case *ast.BinaryExpr:
		if left, right := text(e.X), text(e.Y); left != "" && right != "" {
			return left + right
		}
	}
	return ""
}

// selected returns NAME of the expression pkg.NAME.
func selected(expr ast.Expr, pkg string) (string, bool) {
	selector, ok := expr.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	name, ok := selector.X.(*ast.Ident)
	return selector.Sel.Name, ok && pkg != "" && name.Name == pkg
}

// callsOf finds the calls of a package's function in a file.
func callsOf(file goFile, importPath, function string) []*ast.CallExpr {
	var calls []*ast.CallExpr
	ast.Inspect(file.File, func(node ast.Node) bool {
		if call, ok := node.(*ast.CallExpr); ok {
			if name, ok := selected(call.Fun, file.importName(importPath)); ok && name == function {
				calls = append(calls, call)
			}
		}
		return true
	})
	return calls
}

func function(declared ast.Decl) (*ast.FuncDecl, bool) {
	f, ok := declared.(*ast.FuncDecl)
	return f, ok
}
