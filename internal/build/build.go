package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
)

// Version is set when a release is built.
var Version = "0.1-dev"

// WorkerName is the program that is nothing but a worker.
const WorkerName = "rocserv-worker"

// Ask is the argument with which it prints its Fingerprint instead.
const Ask = "__build"

// Fingerprint is the same for programs that can be main and worker of one another.
func Fingerprint() string {
	h := sha256.New()
	fmt.Fprintln(h, Version, runtime.Version())
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if strings.HasPrefix(s.Key, "vcs.") {
				fmt.Fprintln(h, s.Key, s.Value)
			}
		}
	}
	h.Write(ipc.Digest())
	return Version + " " + hex.EncodeToString(h.Sum(nil))
}

// Worker opens the worker's program in the folder of another one, which may be named
// by a link of /proc, for the descriptor to be executed. It is fs.ErrNotExist if
// there is none.
func Worker(exe string) (*os.File, error) {
	own, err := os.Stat(exe)
	if err != nil {
		return nil, err
	}
	path := Beside(exe, WorkerName)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) // it may be executable and not readable
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	st, err := f.Stat()
	if err == nil {
		err = sameHands(own, st)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Beside names a program in the folder of another, which may be named by a link of
// /proc.
func Beside(exe, name string) string {
	if real, err := os.Readlink(exe); err == nil && filepath.IsAbs(real) {
		exe = real // of a file that was replaced the folder is right
	}
	return filepath.Join(filepath.Dir(exe), name)
}

var (
	errNoFile    = errors.New("it is no file")
	errStrange   = errors.New("it belongs to neither root nor who the server's program belongs to")
	errWriteable = errors.New("more people may write to it than to the server's program")
)

// sameHands says whether nobody can have made the second file who could not have
// made the first one.
func sameHands(own, other fs.FileInfo) error {
	const byOthers = 0o022
	o, p := own.Sys().(*syscall.Stat_t).Uid, other.Sys().(*syscall.Stat_t).Uid
	switch {
	case !other.Mode().IsRegular():
		return errNoFile
	case p != 0 && p != o:
		return errStrange
	case other.Mode().Perm()&byOthers&^own.Mode().Perm() != 0:
		return errWriteable
	}
	return nil
}
