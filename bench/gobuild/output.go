package gobuild

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"
)

// output reads what the go command says on its way: a line for each module that it downloads and, with -v, for each package
// that it compiles. Anything else is an error's.
type output struct {
	mu         sync.Mutex
	rest       []byte // of a line that has not ended
	downloaded int
	compiled   int
	packages   int       // at most that many are compiled; 0 while it is not known
	compiling  time.Time // since the first package
	others     []string
}

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest = append(o.rest, data...)
	for {
		line, rest, whole := bytes.Cut(o.rest, []byte("\n"))
		if !whole {
			return len(data), nil
		}
		o.note(string(line))
		o.rest = rest
	}
}

func (o *output) note(line string) {
	switch {
	case strings.HasPrefix(line, "go: downloading "):
		o.downloaded++
	case o.packages > 0 && line != "" && !strings.ContainsAny(line, " \t:"):
		if o.compiled == 0 {
			o.compiling = time.Now()
		}
		o.compiled++
	default:
		o.others = append(o.others, line)
	}
}

// expect notes how many packages there are.
func (o *output) expect(packages int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.packages = packages
}

// enough packages tell how long the others may take.
const enough = 100

// progress says what is done, what comes and about how long that takes. The packages are not of one size, and those that have
// been compiled before are not counted: so it is about, and at most.
func (o *output) progress(what string, since time.Duration) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.packages == 0:
		return fmt.Sprintf("building %s: %d modules downloaded, then it compiles; %s so far", what, o.downloaded, span(since))
	case o.compiled < enough:
		return fmt.Sprintf("building %s: %d of at most %d packages compiled; %s so far", what, o.compiled, o.packages, span(since))
	}
	left := time.Since(o.compiling) / time.Duration(o.compiled) * time.Duration(max(0, o.packages-o.compiled))
	return fmt.Sprintf("building %s: %d of at most %d packages compiled; %s so far, at most about %s to go",
		what, o.compiled, o.packages, span(since), span(left))
}

// errors is what was said beside the progress.
func (o *output) errors() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(append(o.others, string(o.rest)), "\n")
}

// hint says what to do about an error, where that is known.
func (o *output) hint() string {
	if strings.Contains(o.errors(), "no space left on device") {
		return "; the disk is full: free some room, GOCACHE and GOTMPDIR choose other folders"
	}
	return ""
}
