package house_test

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	commented := map[string]bool{}
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file.Name.Name, "_test") {
			continue
		}
		dir := path.Dir(file.path)
		commented[dir] = commented[dir] || file.Doc != nil
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("%s has no package comment: a reader of the tree must be told what lives there", dir)
		}
	}
}

func TestPackagesAreNamedAfterWhatTheyHold(t *testing.T) {
	t.Parallel()
	banned := []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "types", "lib", "pkg",
		"local", "remote", "host", "member", "master", "proxy", "federation"}
	for _, file := range goFiles(t) {
		for _, name := range append(strings.Split(path.Dir(file.path), "/"), file.Name.Name) {
			if slices.Contains(banned, name) {
				t.Errorf("%s: no package is named %s: a name says what is inside, in the words of docs/architecture.md", file.path, name)
			}
		}
		if name := path.Base(file.path); slices.Contains([]string{"util.go", "utils.go", "helpers.go", "misc.go", "impl.go", "common.go"}, name) {
			t.Errorf("%s: no file is named %s: name it after what a reader looks for", file.path, name)
		}
	}
}

// Registration in init() makes the order of imports part of the program.
func TestNoInit(t *testing.T) {
	t.Parallel()
	for _, file := range goFiles(t) {
		for _, declared := range file.Decls {
			if f, ok := function(declared); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s: no func init: wire things in one function, in order", file.at(f))
			}
		}
	}
}

// A test that sleeps is slow when all is well and fails when the machine is busy.
func TestTestsPollInsteadOfSleeping(t *testing.T) {
	t.Parallel()
	for _, file := range goFiles(t) {
		if !file.isTest() {
			continue
		}
		for _, call := range callsOf(file, "time", "Sleep") {
			t.Errorf("%s: no time.Sleep in tests: poll with a deadline", file.at(call))
		}
	}
}
