package mainproc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/build"
)

const (
	procFD      = "/proc/self/fd/"
	deletedMark = " (deleted)"    // what the kernel adds to the name of a program whose file is gone
	askTime     = 5 * time.Second // for a program's answer what build it is of
	longBuild   = 512             // bytes of an answer, and more than one has
)

// program is a file to execute, by a descriptor: what is tried is what is run.
type program struct {
	file *os.File
	path string
}

func (p *program) name() string { return procFD + strconv.Itoa(int(p.file.Fd())) }

// ownProgram opens the file that this program was started from, which may be
// another one now.
func ownProgram() (*program, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("mainproc: this program's file: %w", err)
	}
	return openProgram(filepath.Clean(strings.TrimSuffix(path, deletedMark)))
}

func openProgram(path string) (*program, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) // it may be executable and not readable
	if err != nil {
		return nil, fmt.Errorf("mainproc: %s: %w", path, err)
	}
	p := &program{os.NewFile(uintptr(fd), path), path}
	if _, err := os.Stat(p.name()); err != nil {
		p.file.Close()
		return nil, fmt.Errorf("mainproc: /proc is needed to replace the program: %w", err)
	}
	return p, nil
}

// as is a role played by another program.
func (r *role) as(p *program) *role {
	other := *r
	other.exe = p.name()
	return &other
}

// roleBuild is a program's answer what build it is of.
var roleBuild = &role{name: "build", arg: build.Ask}

// workerBeside opens the worker's program beside another one, which says what build
// it is of itself. It is nil, and the other program plays that role as all others, if
// there is none, or none of that build.
func (s *server) workerBeside(exe, own string) *program {
	f, err := build.Worker(exe)
	if errors.Is(err, fs.ErrNotExist) {
		s.log.Debug("there is no program of its own for workers", "looked for", build.Beside(exe, build.WorkerName))
		return nil
	}
	var p *program
	if err == nil {
		p = &program{f, f.Name()}
		if err = s.procs.isOfBuild(p, own); err == nil {
			return p
		}
		f.Close()
	}
	s.log.Warn("the program for workers is not used: they take more memory, and longer to start, as the server's own",
		"program", build.Beside(exe, build.WorkerName), "err", err)
	return nil
}

var (
	errOtherBuild = errors.New("mainproc: it is of another build")
	errNoBuild    = errors.New("mainproc: it does not say what build it is of")
)

// isOfBuild asks a program.
func (p *procs) isOfBuild(g *program, want string) error {
	got, err := p.askBuild(g)
	switch got = strings.TrimSpace(got); {
	case err != nil:
		return err
	case got == "":
		return errNoBuild
	case got != want:
		return fmt.Errorf("%w, %.200q, and the server of %.200q", errOtherBuild, got, want)
	}
	return nil
}

// askBuild returns what a program prints about its build. It gets nothing: neither
// descriptors nor an environment.
func (p *procs) askBuild(g *program) (string, error) {
	near, far, err := logPipe()
	if err != nil {
		return "", err
	}
	logs, stderr, err := logPipe()
	if err != nil {
		near.Close()
		unix.Close(far)
		return "", err
	}
	c, err := p.launch(spawnRequest{
		role: roleBuild, exe: g.name(), argv: []string{build.WorkerName, build.Ask}, channel: near, logs: logs,
		files: []uintptr{p.null.Fd(), uintptr(far), uintptr(stderr)},
	})
	closeAll([]int{far, stderr})
	if err != nil {
		near.Close()
		return "", err
	}
	near.SetReadDeadline(time.Now().Add(askTime))
	b, err := io.ReadAll(io.LimitReader(near, longBuild))
	p.kill(c)
	<-c.done
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", fmt.Errorf("%w within %v", errNoBuild, askTime)
	}
	return string(b), err
}
