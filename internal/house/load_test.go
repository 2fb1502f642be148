package house_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// module is the path that all our import paths begin with.
const module = "github.com/tessera-k8s/tessera"

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir, Name              string
	Imports, TestImports, XTestImports []string
}

// short is the import path within the module: "" for the root.
func (p listed) short() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// ours lists the packages of the module. A package that does not compile is listed all the same.
var ours = sync.OnceValues(func() ([]listed, error) { return goList("./...") })

func goList(args ...string) ([]listed, error) {
	command := append([]string{"list", "-e", "-json=ImportPath,Dir,Name,Imports,TestImports,XTestImports"}, args...)
	out, err := run("go", command...)
	if err != nil {
		return nil, err
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// run runs a command in the root of the module and returns its standard output.
func run(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running %s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}

// root is the module's folder, seen from this package's.
const root = "../.."

func packages(t *testing.T) []listed {
	t.Helper()
	list, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// goFile is a parsed source file; path is relative to the root.
type goFile struct {
	path string
	fset *token.FileSet
	*ast.File
}

// sources parses every Go file of the tree, the tools module included.
var sources = sync.OnceValues(func() ([]goFile, error) {
	var files []goFile
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parsing %s: %w", path, err)
		}
		relative, err := filepath.Rel(root, path)
		files = append(files, goFile{path: filepath.ToSlash(relative), fset: fset, File: parsed})
		return err
	})
	return files, err
})

func goFiles(t *testing.T) []goFile {
	t.Helper()
	files, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// at is the place of a node, as an editor understands it.
func (f goFile) at(node ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(node.Pos()).Line)
}

func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// importName is the name by which the file knows a package, or "" if it does not import it.
func (f goFile) importName(path string) string {
	for _, spec := range f.Imports {
		if strings.Trim(spec.Path.Value, `"`) != path {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path[strings.LastIndex(path, "/")+1:]
	}
	return ""
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
