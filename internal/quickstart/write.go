package quickstart

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// place explains a failure to use the directory, with a way out.
func place(f Files, err error) error {
	var what *fs.PathError
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		if errors.As(err, &what) {
			err = fmt.Errorf("cannot use %s: %w", what.Path, what.Err)
		}
		return fmt.Errorf("%w: %w; name a directory you can write with --state-dir DIR", ErrNoPlace, err)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %s is in the way (%w); name another directory with --state-dir DIR", ErrNoPlace, f.Dir, err)
	}
	return fmt.Errorf("%w: %w", ErrState, err)
}

// lock makes the directory and keeps other starts out until unlock.
func lock(f Files) (unlock func(), err error) {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return nil, place(f, err)
	}
	l, err := os.OpenFile(filepath.Join(f.Dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, place(f, err)
	}
	for {
		err = unix.Flock(int(l.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("%w: lock %s: %w", ErrState, l.Name(), err)
	}
	return func() { _ = l.Close() }, nil // which unlocks
}

// write puts a file in place, whole and synced. Without replace it is an error
// (fs.ErrExist) if there is one. The caller holds the lock, so that the name
// that ends in .new is its own; one left by a crash is written over.
func write(path string, b []byte, replace bool) error {
	tmp := path + ".new"
	w, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	if err == nil {
		err = w.Chmod(0o600)
	}
	if err == nil {
		err = w.Sync()
	}
	if e := w.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = rename(tmp, path, replace)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func rename(from, to string, replace bool) error {
	if replace {
		return os.Rename(from, to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // the file system cannot
		if _, err := os.Lstat(to); err == nil {
			return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
		}
		return os.Rename(from, to)
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: err}
	}
	return nil
}

// syncDir makes a rename last, where the file system has a way to.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// exists tells whether there is something at path; not to know is an error.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return false, err
}
