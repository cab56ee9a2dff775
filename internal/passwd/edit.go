package passwd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rocserv/internal/ocpasswd"
	"rocserv/internal/rewrite"
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
		return fmt.Errorf("cannot open '%s' for writing: %w", tmp, rewrite.Cause(err))
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
	return rewrite.Replace(w, target, file.Bytes(), old)
}

// read returns the file's content and, if it exists, its owner and mode.
func read(path string, create bool) (*ocpasswd.File, fs.FileInfo, error) {
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold us
	if create && errors.Is(err, fs.ErrNotExist) {
		return &ocpasswd.File{}, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open '%s' for reading: %w", path, rewrite.Cause(err))
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read '%s': %w", path, rewrite.Cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("cannot read '%s': not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(r, ocpasswd.MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read '%s': %w", path, rewrite.Cause(err))
	}
	file, err := ocpasswd.Parse(b)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read '%s': %w", path, err)
	}
	return file, info, nil
}
