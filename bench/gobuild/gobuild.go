// Package gobuild runs `go build` for what takes minutes the first time, and tells how far it is: on a terminal in one line
// that moves, elsewhere in a line a minute. It imports the standard library alone, so that what builds everything else is
// itself there at once.
package gobuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Build is one call of the go command.
type Build struct {
	Root string   // folder to run it in
	What string   // for people, such as "control planes"
	Args []string // of go build: flags, then the package
	Log  io.Writer
}

// Run builds. Its error has what the go command said and, where it is known, what to do about it.
func (b Build) Run(ctx context.Context) error {
	began := time.Now()
	var told output
	line := newLine(b.Log)
	stop := line.follow(func() string { return told.progress(b.What, time.Since(began)) })
	err := b.build(ctx, &told)
	stop()
	switch took := time.Since(began); {
	case ctx.Err() != nil:
		return fmt.Errorf("building %s: %w", b.What, context.Cause(ctx))
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("building %s: the go command is not in PATH: %w", b.What, err)
	case err != nil:
		return fmt.Errorf("building %s: %w%s\n%s", b.What, err, told.hint(), told.errors())
	case line.told || took > quickly:
		line.end(fmt.Sprintf("built %s in %s", b.What, span(took)))
	}
	return nil
}

// quickly is how long a build may take without a word about it.
const quickly = 10 * time.Second

// build lists the packages first, which downloads the modules and tells how many there are to compile at most.
func (b Build) build(ctx context.Context, told *output) error {
	listed, err := b.call(ctx, told, "list", append([]string{"-deps"}, b.forList()...)...)
	if err != nil {
		return err
	}
	told.expect(bytes.Count(listed, []byte("\n")))
	_, err = b.call(ctx, told, "build", append([]string{"-v"}, b.Args...)...)
	return err
}

// forList leaves out what go list does not take.
func (b Build) forList() (args []string) {
	for i := 0; i < len(b.Args); i++ {
		switch arg := b.Args[i]; {
		case arg == "-o" || arg == "-ldflags":
			i++
		case strings.HasPrefix(arg, "-o=") || strings.HasPrefix(arg, "-ldflags="):
		default:
			args = append(args, arg)
		}
	}
	return args
}

func (b Build) call(ctx context.Context, told *output, verb string, args ...string) (stdout []byte, err error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", append([]string{verb}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.Root, &out, told
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go removes its work folder then
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	return out.Bytes(), err
}

// span is a duration as people say it: 45 s, 3 min 5 s.
func span(d time.Duration) string {
	seconds := int(d.Round(time.Second).Seconds())
	if seconds < 60 {
		return fmt.Sprintf("%d s", seconds)
	}
	return fmt.Sprintf("%d min %d s", seconds/60, seconds%60)
}
