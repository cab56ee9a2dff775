package passwd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"rocserv/internal/ocpasswd"
)

// ErrLocked says that FILE.tmp exists: another edit is going on.
var ErrLocked = errors.New("is locked")

// Edit changes the password file at path. With create a file that does not
// exist is an empty one, else it is an error. A symbolic link is followed, so
// that it stays one.
func Edit(path string, create bool, change func(*ocpasswd.File) error) (err error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		target = path // does not exist, or the open below tells why
	}
	tmp := target + ".tmp"
	w, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("file '%s' %w. (If nobody else is changing it, remove '%s'.)", path, ErrLocked, tmp)
	}
	if err != nil {
		return fmt.Errorf("cannot open '%s' for writing: %w", tmp, cause(err))
	}
	defer func() {
		_ = w.Close() // after a success it is closed already
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()

	file, old, err := read(target, create)
	if err != nil {
		return err
	}
	if err := change(file); err != nil {
		return err
	}
	if err := finish(w, file.Bytes(), old); err != nil {
		return fmt.Errorf("cannot write '%s': %w", tmp, cause(err))
	}
	if err := os.Rename(tmp, target); err != nil {
		return fmt.Errorf("cannot replace '%s': %w", target, cause(err))
	}
	return syncDir(filepath.Dir(target))
}

// read returns the file's content and, if it exists, its owner and mode.
func read(path string, create bool) (*ocpasswd.File, fs.FileInfo, error) {
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold us
	if create && errors.Is(err, fs.ErrNotExist) {
		return &ocpasswd.File{}, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open '%s' for reading: %w", path, cause(err))
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read '%s': %w", path, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("cannot read '%s': not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(r, ocpasswd.MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read '%s': %w", path, cause(err))
	}
	file, err := ocpasswd.Parse(b)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read '%s': %w", path, err)
	}
	return file, info, nil
}

// finish writes and syncs the new file. It gets the old one's owner and group;
// only if that works does the group keep its right to read.
func finish(w *os.File, content []byte, old fs.FileInfo) error {
	if _, err := w.Write(content); err != nil {
		return err
	}
	if old != nil && keepOwner(w, old) == nil {
		if err := w.Chmod(0o600 | old.Mode().Perm()&0o040); err != nil {
			return err
		}
	}
	if err := w.Sync(); err != nil {
		return err
	}
	return w.Close()
}

// keepOwner gives w the owner and group of the old file, if it has others.
func keepOwner(w *os.File, old fs.FileInfo) error {
	now, err := w.Stat()
	if err != nil {
		return err
	}
	was, is := old.Sys().(*syscall.Stat_t), now.Sys().(*syscall.Stat_t)
	if was.Uid == is.Uid && was.Gid == is.Gid {
		return nil
	}
	return w.Chown(int(was.Uid), int(was.Gid))
}

// syncDir makes the rename last. Where a directory cannot be opened or synced
// (some network file systems) the rename has happened all the same.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("cannot sync '%s': %w", dir, cause(err))
	}
	return nil
}

// cause takes the path out of an os error: the message around it names it.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
