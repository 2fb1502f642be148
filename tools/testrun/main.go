// Command testrun runs `go test` and shows what plain `go test` hides and `go test -v` buries: a line for every test,
// the output of those that failed, the reason of those that were skipped, and how many there were of each.
//
// Its arguments are those of go test. It ends with the exit status of go test.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action  string // run, output, pass, fail, skip, build-output, build-fail, ...
	Package string
	Test    string
	Output  string
}

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun: starting go test:", err)
		os.Exit(2)
	}
	report := &report{out: os.Stdout, output: map[string][]string{}}
	report.read(out)
	err = cmd.Wait()
	fmt.Printf("TESTS passed=%d failed=%d skipped=%d packages=%d\n", report.passed, report.failed, report.skipped, report.packages)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun: running go test:", err)
		os.Exit(2)
	}
}

// report prints events as they come and counts top-level tests.
type report struct {
	out                               io.Writer
	output                            map[string][]string // package and top-level test -> what it has printed
	passed, failed, skipped, packages int
}

func (r *report) read(in io.Reader) {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) != nil:
			fmt.Fprint(r.out, line) // Not JSON: go itself has something to say.
		default:
			r.handle(e)
		}
		if err != nil {
			return
		}
	}
}

func (r *report) handle(e event) {
	top, _, sub := strings.Cut(e.Test, "/")
	key := e.Package + " " + top
	switch {
	case e.Action == "build-output":
		fmt.Fprint(r.out, e.Output)
	case e.Action == "output":
		r.keep(key, top, e.Output)
	case e.Action != "pass" && e.Action != "fail" && e.Action != "skip", sub:
	case top == "":
		r.packageDone(e, key)
	default:
		r.testDone(e, key)
	}
}

// keep shows the package's own lines (ok, FAIL, panics) at once and holds a test's output until its result is known.
func (r *report) keep(key, test, text string) {
	if test == "" && text != "PASS\n" && text != "FAIL\n" {
		fmt.Fprint(r.out, text)
	}
	if test != "" && !strings.HasPrefix(text, "=== ") {
		r.output[key] = append(r.output[key], text)
	}
}

func (r *report) packageDone(e event, key string) {
	r.packages++
	if e.Action != "fail" {
		return
	}
	for other, lines := range r.output { // A panic or a timeout leaves tests without a result: show what they said.
		if strings.HasPrefix(other, key) {
			fmt.Fprint(r.out, strings.Join(lines, ""))
		}
	}
}

func (r *report) testDone(e event, key string) {
	lines := r.output[key]
	delete(r.output, key)
	switch e.Action {
	case "pass":
		r.passed++
		lines = figures(lines, e.Test)
	case "fail":
		r.failed++
	case "skip":
		r.skipped++
	}
	fmt.Fprint(r.out, strings.Join(lines, ""))
}

// figures picks from the output of a test that passed its result and what it has logged with t.Log, where tests print
// times, counts and why a part was skipped. What other code wrote to standard output is not indented, and is dropped.
func figures(lines []string, test string) []string {
	var result, logged []string
	for _, line := range lines {
		switch text := strings.TrimLeft(line, " "); {
		case strings.HasPrefix(line, "--- PASS: "+test+" "):
			result = append(result, line)
		case strings.HasPrefix(text, "--- SKIP: "), strings.HasPrefix(line, "    ") && !strings.HasPrefix(text, "--- "):
			logged = append(logged, line)
		}
	}
	return append(result, logged...)
}
