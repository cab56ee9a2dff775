package oath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"rocserv/internal/rewrite"
)

// Read reads the file at path.
func Read(path string) (*File, error) {
	f, _, err := read(path)
	return f, err
}

// Edit changes the file at path while it is locked the way liboath does it
// (usersfile.c: FILE.lock, FILE.new), so that several servers and rocserv
// passwd may share it. If change returns true the file is replaced as a whole
// and is on disk when Edit returns without error; else it is as it was. With
// create a file that does not exist is an empty one.
func Edit(path string, create bool, change func(*File) (bool, error)) error {
	unlock, err := lock(path)
	if err != nil {
		return fmt.Errorf("cannot lock '%s': %w", path, rewrite.Cause(err))
	}
	defer unlock()
	f, old, err := read(path)
	if create && errors.Is(err, fs.ErrNotExist) {
		f, err = new(File), nil
	}
	if err != nil {
		return fmt.Errorf("cannot read '%s': %w", path, rewrite.Cause(err))
	}
	changed, err := change(f)
	if err != nil || !changed {
		return err
	}
	w, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write '%s': %w", path+".new", rewrite.Cause(err))
	}
	if err := rewrite.Replace(w, path, f.Bytes(), old); err != nil {
		_ = w.Close()
		_ = os.Remove(w.Name())
		return err
	}
	return nil
}

func read(path string) (*File, fs.FileInfo, error) {
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold us
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	st, err := r.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, nil, err
	}
	defer clear(b)
	f, err := Parse(b)
	return f, st, err
}

// lock waits for the lock of a file. The file of the lock belongs to whom the
// file itself does: root may make it for a server that is not root.
func lock(path string) (unlock func(), err error) {
	l, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(path); err == nil {
		own := st.Sys().(*syscall.Stat_t)
		_ = l.Chown(int(own.Uid), int(own.Gid)) // of use to root only
	}
	for {
		// An open file description's lock, so that two goroutines exclude each other too.
		err = unix.FcntlFlock(l.Fd(), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return func() { _ = l.Close() }, nil
}
