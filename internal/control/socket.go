package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultFile is ocserv's place for the socket.
const DefaultFile = "/var/run/occtl.socket"

// socketName is the socket's name in a run directory.
const socketName = "occtl.socket"

// maxPath is the longest name a socket can have (unix(7), sun_path).
const maxPath = 107

// Places lists where a socket may be, the best first: where the configuration
// wants it (empty: it does not say), or ocserv's own place; then run
// directories that an ordinary user can have. Server and client look in the
// same order.
func Places(configured string) []string {
	if configured == "" {
		configured = DefaultFile
	}
	list := []string{configured}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		list = append(list, filepath.Join(dir, "rocserv", socketName))
	}
	uid := strconv.Itoa(os.Getuid())
	for _, dir := range []string{
		filepath.Join("/run/user", uid, "rocserv"),
		filepath.Join(os.TempDir(), "rocserv-"+uid),
	} {
		if name := filepath.Join(dir, socketName); name != list[len(list)-1] {
			list = append(list, name)
		}
	}
	return list
}

// Socket is a control socket that listens.
type Socket struct {
	*net.UnixListener
	Name string
	file fs.FileInfo // what we made, so that nobody else's is removed
}

// Listen opens the socket at the first of the places where it can be. passed
// says why it is not at one before that.
func Listen(places []string) (s *Socket, passed error, err error) {
	for i, name := range places {
		s, err = listen(name, i > 0)
		if err == nil {
			return s, passed, nil
		}
		passed = errors.Join(passed, err)
	}
	return nil, nil, fmt.Errorf("control: no place for the control socket: %w", passed)
}

// listen opens one. With own the socket's directory must be ours alone, and is
// made if it is not there.
func listen(name string, own bool) (*Socket, error) {
	if len(name) > maxPath {
		return nil, fmt.Errorf("control: %s: a socket's name has at most %d bytes", name, maxPath)
	}
	if own {
		if err := ownDirectory(filepath.Dir(name)); err != nil {
			return nil, err
		}
	}
	if err := removeStale(name); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(name, 0o600); err != nil { // who may ask is decided by the peer's uid
		l.Close()
		return nil, fmt.Errorf("control: %w", err)
	}
	st, err := os.Lstat(name)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("control: %w", err)
	}
	return &Socket{l, name, st}, nil
}

// Inherit takes over a socket that listens already, by its descriptor and name.
func Inherit(fd int, name string) (*Socket, error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("control: socket taken over: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("control: descriptor %d is no Unix socket", fd)
	}
	u.SetUnlinkOnClose(false)
	st, err := os.Lstat(name)
	if err != nil { // nobody can reach it
		l.Close()
		return nil, fmt.Errorf("control: socket taken over: %w", err)
	}
	return &Socket{u, name, st}, nil
}

// ownDirectory makes a directory that only we can enter. In a place where all
// can write, what is there already may be a trap.
func ownDirectory(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("control: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() || int(sys.Uid) != os.Getuid() || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("control: %s is not a directory that is ours alone", dir)
	}
	return nil
}

// removeStale removes a socket that nobody listens to any more. One that
// somebody does is an error, and so is a file of another kind.
func removeStale(name string) error {
	st, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control: %s is there and no socket", name)
	}
	c, err := net.DialTimeout("unix", name, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("control: %s is the socket of another server that runs", name)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("control: %s: %w", name, err)
	}
	if err := os.Remove(name); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// Close ends listening and removes the socket if it is still ours.
func (s *Socket) Close() error {
	if st, err := os.Lstat(s.Name); err == nil && os.SameFile(st, s.file) {
		os.Remove(s.Name)
	}
	return s.UnixListener.Close()
}
