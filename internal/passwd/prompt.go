package passwd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"rocserv/internal/ocpasswd"
)

// Why no password was read.
var (
	ErrMismatch = errors.New("passwords do not match")
	ErrNone     = errors.New("please specify a password")
)

// readPassword asks twice where in is a terminal, else it takes one line.
func readPassword(in io.Reader, prompts io.Writer) ([]byte, error) {
	f, ok := in.(*os.File)
	if !ok || !isTerminal(f) {
		return readLine(in)
	}
	first, err := ask(f, prompts, "Enter password: ")
	if err != nil {
		return nil, err
	}
	second, err := ask(f, prompts, "Re-enter password: ")
	defer clear(second)
	if err == nil && !bytes.Equal(first, second) {
		err = ErrMismatch
	}
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}

// ask prints a prompt and reads a line with the terminal's echo off. A signal
// that ends the process restores the terminal first.
func ask(tty *os.File, prompts io.Writer, prompt string) ([]byte, error) {
	fd := int(tty.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read terminal state: %w", err)
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ECHONL | unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	restore := func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }

	sigs := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer func() { signal.Stop(sigs); close(done) }()
	go func() {
		select {
		case s := <-sigs:
			restore()
			signal.Reset(s)
			_ = unix.Kill(unix.Getpid(), s.(unix.Signal))
		case <-done:
		}
	}()

	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, fmt.Errorf("switch terminal echo off: %w", err)
	}
	defer restore()
	fmt.Fprint(prompts, prompt)
	return readLine(tty)
}

// readLine reads up to the first line end or the end of input, byte by byte so
// that what follows is left to the next reader.
func readLine(r io.Reader) ([]byte, error) {
	line := make([]byte, 0, ocpasswd.MaxPassword+2)
	var b [1]byte
	for len(line) < cap(line) {
		_, err := io.ReadFull(r, b[:])
		if errors.Is(err, io.EOF) || err == nil && b[0] == '\n' {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read password: %w", err)
		}
		line = append(line, b[0])
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return nil, ErrNone
	}
	return line, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
