package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// The states of a process as status prints them.
const (
	stateRunning = "running"
	stateStopped = "stopped"
	stateEnded   = "ended"
)

// supervisor starts the lab's processes, keeps the record of them in DIR/processes.json and notices crashes.
type supervisor struct {
	dir  string
	fork chan func() // work for the thread that forks

	reapers  sync.WaitGroup
	spawning sync.RWMutex // read-held while a process is started, so that stop misses none
	stopping bool         // guarded by spawning

	mu        sync.Mutex
	processes []*Process
	crashed   context.CancelCauseFunc // told of the first crash
}

// record is the content of DIR/processes.json; status and down read it from another process.
type record struct {
	Supervisor entry   `json:"supervisor"`
	Processes  []entry `json:"processes"`
}

// entry identifies a process for ever: a pid with another start time is somebody else's process.
type entry struct {
	Name      string `json:"name"`
	PID       int    `json:"pid"`
	StartTime string `json:"startTime"`
	Exit      string `json:"exit,omitempty"`
	Log       string `json:"log,omitempty"`
}

func (e entry) alive() bool {
	return e.PID > 0 && e.StartTime != "" && startTime(e.PID) == e.StartTime
}

func newSupervisor(dir string, crashed context.CancelCauseFunc) *supervisor {
	s := &supervisor{dir: dir, fork: make(chan func()), crashed: crashed}
	go s.forker()
	return s
}

// forker starts all children from one thread that lives as long as the supervisor: on Linux a child's Pdeathsig is bound to the
// thread that forked it, and Go ends threads at will. The thread is not unlocked, so it ends with this goroutine.
func (s *supervisor) forker() {
	runtime.LockOSThread()
	for work := range s.fork {
		work()
	}
}

// process gives the process of that name, creating its entry if it is new.
func (s *supervisor) process(name string) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		if p.name == name {
			return p
		}
	}
	ended := make(chan struct{})
	close(ended)
	file := strings.ReplaceAll(name, "/", "-") + ".log"
	p := &Process{name: name, sup: s, log: filepath.Join(s.dir, "logs", file), done: ended, exit: "not started"}
	s.processes = append(s.processes, p)
	return p
}

// find gives the process of that name or nil.
func (s *supervisor) find(name string) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		if p.name == name {
			return p
		}
	}
	return nil
}

// spawn runs c as p. The caller watches the start: an end is not a crash until it clears p.expected.
func (s *supervisor) spawn(p *Process, c command) error {
	s.spawning.RLock()
	defer s.spawning.RUnlock()
	if s.stopping {
		return fmt.Errorf("starting %s: the lab is being stopped", p.name)
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.name, diskError(s.dir, err))
	}
	defer out.Close()
	cmd := exec.Command(c.path, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttributes()

	logged, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	inside := 0
	if c.within != nil {
		inside = c.within.PID() // Not asked for on the forking thread: who starts that process waits for the thread.
	}
	p.mu.Lock()
	forked := make(chan error)
	s.fork <- func() { forked <- c.network.Do(func() error { return startChild(cmd, c.apart, inside) }) }
	if err := <-forked; err != nil {
		p.mu.Unlock()
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	p.command, p.cmd, p.done, p.exit, p.expected = c, cmd, make(chan struct{}), "", true
	p.logStart, p.started = logged, startTime(cmd.Process.Pid)
	p.mu.Unlock()
	s.reapers.Go(func() { s.reap(p, cmd) })
	return s.save()
}

// reap waits for the end of a run and reports it as a crash unless it was expected.
func (s *supervisor) reap(p *Process, cmd *exec.Cmd) {
	_ = cmd.Wait() // ProcessState tells more
	p.mu.Lock()
	p.exit = cmd.ProcessState.String()
	expected := p.expected
	close(p.done)
	p.mu.Unlock()
	_ = s.save() // the next save repeats it
	s.spawning.RLock()
	stopping := s.stopping
	s.spawning.RUnlock()
	if !expected && !stopping {
		s.crashed(p.endedError())
	}
}

// save writes DIR/processes.json in one step, so that readers never see half of it.
func (s *supervisor) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := record{Supervisor: entry{Name: "lab", PID: os.Getpid(), StartTime: startTime(os.Getpid())}}
	for _, p := range s.processes {
		p.mu.Lock()
		if p.cmd != nil {
			rec.Processes = append(rec.Processes, entry{Name: p.name, PID: p.cmd.Process.Pid, StartTime: p.started, Exit: p.exit, Log: p.log})
		}
		p.mu.Unlock()
	}
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the list of processes: %w", err)
	}
	file := filepath.Join(s.dir, recordFile)
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return fmt.Errorf("writing the list of processes: %w", diskError(s.dir, err))
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("writing the list of processes: %w", diskError(s.dir, err))
	}
	return nil
}

// stop ends every process: those with a grace first and side by side (the parts of Tessera), the control planes after them.
func (s *supervisor) stop() {
	s.spawning.Lock()
	s.stopping = true
	s.spawning.Unlock()
	s.mu.Lock()
	processes := s.processes
	s.mu.Unlock()
	for _, polite := range []bool{true, false} {
		var wait sync.WaitGroup
		for _, p := range processes {
			if (p.politeness() > 0) == polite {
				wait.Go(p.Stop)
			}
		}
		wait.Wait()
	}
	s.reapers.Wait() // they write into the folder, which may be removed next
	_ = s.save()     // nothing runs any more; status then tells from the pids
	close(s.fork)
}

const recordFile = "processes.json"

// readRecord reads DIR/processes.json.
func readRecord(dir string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, fmt.Errorf("reading the processes of the lab in %s: %w", dir, err)
	}
	rec := &record{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("reading the processes of the lab in %s: %w", dir, err)
	}
	return rec, nil
}

// waitGone polls until no entry is alive any more or the time is over; it returns those that still live.
func waitGone(entries []entry, timeout time.Duration) []entry {
	deadline := time.Now().Add(timeout)
	for {
		var left []entry
		for _, e := range entries {
			if e.alive() {
				left = append(left, e)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(50 * time.Millisecond)
	}
}
