package helper

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// ReadFile reads a regular file that must not be longer than most bytes: what a
// method's options name. Who holds secrets of it clears them.
func ReadFile(name string, most int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe's other end is not waited for
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		clear(b)
		return nil, fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return b, nil
}
