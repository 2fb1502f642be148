package house_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// command is one that a document tells its reader to type.
type command struct {
	place string
	words []string // the sub-commands and arguments before the first flag
	flags []string
}

var (
	fenced   = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
	inline   = regexp.MustCompile("`([^`\n]+)`")
	longFlag = regexp.MustCompile(`^--[a-z][a-z-]*`)
	word     = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// commands finds in a document what begins with prefix, in code blocks and in code spans.
func commands(place, document, prefix string) []command {
	var lines []string
	for _, block := range fenced.FindAllStringSubmatch(document, -1) {
		lines = append(lines, strings.Split(block[1], "\n")...)
	}
	for _, span := range inline.FindAllStringSubmatch(fenced.ReplaceAllString(document, ""), -1) {
		lines = append(lines, span[1])
	}
	var found []command
	for _, line := range lines {
		line, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "$ "), " #")
		rest, ok := strings.CutPrefix(line+" ", prefix+" ")
		if !ok {
			continue
		}
		c := command{place: place + ": " + line}
		for i, field := range strings.Fields(rest) {
			if flag := longFlag.FindString(field); flag != "" {
				c.flags = append(c.flags, flag)
			}
			if word.MatchString(field) && i == len(c.words) {
				c.words = append(c.words, field)
			}
		}
		found = append(found, c)
	}
	return found
}

func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "*/README.md", "bench/*/README.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			name := strings.TrimPrefix(filepath.ToSlash(path), root+"/")
			texts[name] = readFile(t, name)
		}
	}
	return texts
}

func TestDocumentedMakeTargetsExist(t *testing.T) {
	t.Parallel()
	var targets []string
	for _, match := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(readFile(t, "Makefile"), -1) {
		targets = append(targets, match[1])
	}
	for name, document := range documents(t) {
		for _, c := range commands(name, document, "make") {
			for _, target := range c.words {
				if !slices.Contains(targets, target) {
					t.Errorf("%s: the Makefile has no target %s", c.place, target)
				}
			}
		}
	}
}

// Every documented command of ours is asked for its --help, which must know every documented flag.
func TestDocumentedCommandsExist(t *testing.T) {
	t.Parallel()
	for source, prefixes := range map[string][]string{"./bench": {"go run ./bench"}, ".": {"tessera", "bin/tessera"}} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			var found []command
			for name, document := range documents(t) {
				for _, prefix := range prefixes {
					found = append(found, commands(name, document, prefix)...)
				}
			}
			if len(found) == 0 {
				return
			}
			binary := filepath.Join(t.TempDir(), "binary")
			if _, err := run("go", "build", "-o", binary, source); err != nil {
				t.Fatal(err)
			}
			for _, c := range found {
				help, err := exec.Command(binary, append(c.words, "--help")...).CombinedOutput()
				if err != nil {
					t.Errorf("%s: --help: %v\n%s", c.place, err, help)
				}
				for _, flag := range c.flags {
					if !regexp.MustCompile(flag + `\b`).Match(help) {
						t.Errorf("%s: the command has no flag %s", c.place, flag)
					}
				}
			}
		})
	}
}

func TestDocumentedFilesExist(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	for name, document := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(document, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), match[1])); err != nil {
				t.Errorf("%s links %s, which is not there", name, match[1])
			}
		}
	}
}
