package mainproc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// writePIDFile writes our pid in decimal, without a newline, as ocserv does.
func writePIDFile(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("mainproc: pid file: %w", err)
	}
	_, err = f.WriteString(strconv.Itoa(os.Getpid()))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(name, 0o644) // scripts of others read it, whatever our umask
	}
	if err != nil {
		return fmt.Errorf("mainproc: pid file: %w", err)
	}
	return nil
}

// removePIDFile removes the file if it is still ours.
func removePIDFile(name string) {
	b, err := os.ReadFile(name)
	if err == nil && string(bytes.TrimSpace(b)) == strconv.Itoa(os.Getpid()) {
		os.Remove(name)
	}
}
