package gobuild

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// How often a line is told: it moves on a terminal, and each is a new one elsewhere.
const (
	moving   = time.Second
	standing = time.Minute
)

// line tells how far something is.
type line struct {
	out      io.Writer
	terminal bool
	every    time.Duration
	told     bool
}

func newLine(out io.Writer) *line {
	if out == nil {
		out = io.Discard
	}
	l := &line{out: out, every: standing}
	if file, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			l.terminal, l.every = true, moving
		}
	}
	return l
}

// follow tells what text says now and then, until stop is called.
func (l *line) follow(text func() string) (stop func()) {
	done := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(l.every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				l.tell(text())
			}
		}
	})
	return func() {
		close(done)
		telling.Wait()
		if l.terminal && l.told {
			fmt.Fprint(l.out, clear)
		}
	}
}

// clear goes to the beginning of the line and empties it.
const clear = "\r\x1b[K"

func (l *line) tell(text string) {
	l.told = true
	if l.terminal {
		fmt.Fprint(l.out, clear+text)
		return
	}
	fmt.Fprintln(l.out, text)
}

// end tells how it ended.
func (l *line) end(text string) { fmt.Fprintln(l.out, text) }
