package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ServerID is uid and gid of rocserv in the lab. No user of the host has it.
const ServerID = 12345

// Kind is which server.
type Kind string

// The servers that a lab can run.
const (
	Rocserv Kind = "rocserv"
	Ocserv  Kind = "ocserv" // as root, with kernel tun devices
)

// Roles of a server's processes.
const (
	RoleMain   = "main"
	RoleSecMod = "sec-mod"
	RoleHelper = "helper"
	RoleWorker = "worker" // also one that waits for a client
)

// Program is a server to run.
type Program struct {
	Kind    Kind
	Path    string
	Sandbox Sandbox   // as in a container: startSandboxed
	Lacks   []uintptr // system calls that there are none of in the sandbox: NoLandlock, NoFilters
	Profile string    // file of the system calls that podman lets it have; empty: podman's own
}

// GID is the group it runs as.
func (p Program) GID() int {
	if p.Sandbox != NoSandbox {
		return SandboxGID
	}
	return ServerID
}

// Server is a server that runs in srv.
type Server struct {
	*Process
	Kind    Kind
	State   *State
	PIDFile string
}

// Ordinary puts in front of a command what makes it run as an ordinary user
// without any capability or hope for one.
func Ordinary(argv ...string) []string { return ordinary(ServerID, argv...) }

func ordinary(gid int, argv ...string) []string {
	return append([]string{"setpriv", "--reuid", strconv.Itoa(ServerID), "--regid", strconv.Itoa(gid), "--clear-groups",
		"--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"}, argv...)
}

// Launch starts the program in srv with any arguments.
func (l *Lab) Launch(p Program, args ...string) (*Process, error) { return l.launch(nil, p, args...) }

// launch starts the program as who it is to run, with a command that executes
// it, or nothing, in front.
func (l *Lab) launch(by []string, p Program, args ...string) (*Process, error) {
	if p.Sandbox != NoSandbox {
		return l.startSandboxed(by, p, args...)
	}
	argv := append([]string{p.Path}, args...)
	if p.Kind != Ocserv {
		argv = Ordinary(argv...)
	}
	return l.Srv.Start(string(p.Kind), nil, nil, slices.Concat(by, argv)...)
}

// StartServer starts a server, with more arguments, and waits until it lets
// clients in. It forwards for a server that needs it.
func (l *Lab) StartServer(p Program, s *State, args ...string) (*Server, error) {
	return l.StartServerBy(nil, p, s, args...)
}

// StartServerBy is StartServer with a command that executes the server, or
// nothing, in front.
func (l *Lab) StartServerBy(by []string, p Program, s *State, args ...string) (*Server, error) {
	if p.Kind == Ocserv {
		if err := l.Forward(); err != nil {
			return nil, err
		}
	}
	pidFile := s.Path("run", "pid")
	proc, err := l.launch(by, p, append([]string{"-f", "-d", "3", "-p", pidFile, "-c", s.Config}, args...)...)
	if err != nil {
		return nil, err
	}
	srv := &Server{Process: proc, Kind: p.Kind, State: s, PIDFile: pidFile}
	if _, err := srv.Expect(`initialized (roc|oc)serv`, 20*time.Second); err != nil {
		return srv, err
	}
	return srv, nil
}

// Stop ends the server as a service supervisor does and says what is wrong
// about the way it ended.
func (s *Server) Stop() error {
	tree, err := Tree(s.PID())
	if err != nil {
		return err
	}
	// ocserv kills its own process group, main included, when it took long.
	status, err := s.End(syscall.SIGTERM, 15*time.Second)
	switch {
	case err != nil:
		return err
	case status != 0 && s.Kind == Rocserv:
		return fmt.Errorf("the server ended with status %d", status)
	}
	if err := Gone(tree, 2*time.Second); err != nil {
		return err
	}
	if _, err := os.Stat(s.PIDFile); err == nil && s.Kind == Rocserv {
		return errors.New("the pid file was not removed")
	}
	return nil
}

// Gone waits until none of the processes is there.
func Gone(procs []Proc, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		procs = slices.DeleteFunc(procs, func(p Proc) bool {
			now, err := readProc(p.PID)
			return err != nil || !slices.Equal(now.Args, p.Args)
		})
		if len(procs) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v these still run: %v", limit, procs)
		}
	}
}

// Processes returns the server's processes by role.
func (s *Server) Processes() (map[string][]Proc, error) { return ByRole(s.PID()) }

// ByRole returns the processes of the server whose main is given, by role.
func ByRole(main int) (map[string][]Proc, error) {
	tree, err := Tree(main)
	if err != nil {
		return nil, err
	}
	roles := map[string][]Proc{}
	for _, p := range tree {
		roles[role(p, main)] = append(roles[role(p, main)], p)
	}
	return roles, nil
}

// role reads it off the command line: rocserv's are arguments, ocserv's are
// names ("ocserv-sm").
func role(p Proc, main int) string {
	line := strings.Join(p.Args, " ")
	switch {
	case p.PID == main:
		return RoleMain
	case strings.Contains(line, "__secmod"), strings.HasPrefix(line, "ocserv-sm"):
		return RoleSecMod
	case strings.Contains(line, "__helper"):
		return RoleHelper
	case strings.Contains(line, "__worker"), strings.HasPrefix(line, "ocserv-worker"), strings.Contains(line, "/ocserv-worker"):
		return RoleWorker
	}
	return line
}

// Worker returns the worker that serves the client at an outer address.
func (s *Server) Worker(client string) (Proc, error) {
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return Proc{}, err
	}
	roles, err := s.Processes()
	if err != nil {
		return Proc{}, err
	}
	return WorkerOf(roles[RoleWorker], addr)
}

// CPU is what all processes of the server have used so far.
func (s *Server) CPU() (time.Duration, error) {
	tree, err := Tree(s.PID())
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, p := range tree {
		sum += p.CPU
	}
	return sum, nil
}
