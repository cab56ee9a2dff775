package rewrite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Replace writes content to w, which it closes, and puts w in target's place.
// old is what target was before; nil: there was nothing. If it fails target is
// as it was, and w is still there.
func Replace(w *os.File, target string, content []byte, old fs.FileInfo) error {
	if err := finish(w, content, old); err != nil {
		return fmt.Errorf("cannot write '%s': %w", w.Name(), Cause(err))
	}
	if err := os.Rename(w.Name(), target); err != nil {
		return fmt.Errorf("cannot replace '%s': %w", target, Cause(err))
	}
	return syncDir(filepath.Dir(target))
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
		return fmt.Errorf("cannot sync '%s': %w", dir, Cause(err))
	}
	return nil
}

// Cause takes the path out of an os error: the message around it names it.
func Cause(err error) error {
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
