package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs in a namespace. What it prints, on both
// channels, is in its Log.
type Process struct {
	Name string
	*Log

	cmd    *exec.Cmd
	inside int           // pid of the program if cmd is a sandbox around it, else 0
	done   chan struct{} // closed when it has ended
}

// ErrRuns is what a program is that should have ended.
var ErrRuns = errors.New("still running")

// environment is what every program of the lab gets: nothing of who runs it.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LANG=C.UTF-8"}

// Start starts a program in the namespace. name is for messages, env is added
// to the environment, stdin may be nil.
func (n Netns) Start(name string, stdin io.Reader, env []string, argv ...string) (*Process, error) {
	return n.start(name, stdin, env, nil, argv...)
}

// start is Start with files, the first of which is the program's descriptor 3.
func (n Netns) start(name string, stdin io.Reader, env []string, files []*os.File, argv ...string) (*Process, error) {
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.Name}, argv...)...)
	cmd.Env = append(slices.Clone(environment), env...)
	cmd.Stdin, cmd.ExtraFiles = stdin, files
	p := &Process{Name: name, Log: newLog(), cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	// Children that outlive the program may hold its standard error.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		defer p.Log.end()
		p.cmd.Wait()
	}()
	return p, nil
}

// PID is the program's own: ip, setpriv and their like execute what they are
// given in their own place. Of a sandbox it is that of the program inside.
func (p *Process) PID() int { return cmp.Or(p.inside, p.cmd.Process.Pid) }

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error {
	switch {
	case p.inside == 0:
		return p.cmd.Process.Signal(s)
	case !p.Running():
		return os.ErrProcessDone
	}
	return syscall.Kill(p.inside, s)
}

// Running tells whether the program has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the end and returns the exit status, 128 + n after signal n.
func (p *Process) Wait(limit time.Duration) (int, error) {
	select {
	case <-p.done:
	case <-time.After(limit):
		if p.Running() {
			return 0, fmt.Errorf("%s after %v: %w", p.Name, limit, ErrRuns)
		}
	}
	if ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// End sends a signal and waits as Wait does.
func (p *Process) End(s syscall.Signal, limit time.Duration) (int, error) {
	if err := p.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	return p.Wait(limit)
}

// Story is the log with the program's name and fate above it, for a person.
func (p *Process) Story() string {
	fate := "runs"
	if !p.Running() {
		fate = p.cmd.ProcessState.String()
	}
	return fmt.Sprintf("---- %s (pid %d, %s): %s\n%s", p.Name, p.PID(), fate, strings.Join(p.cmd.Args, " "), p.Log)
}
