package occtl

import (
	"bytes"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// page prints what write writes: through a pager if it is longer than the
// terminal is high, and one is wanted (OCCTL_PAGER, PAGER, else less).
func (s *session) page(write func(io.Writer)) {
	tty, ok := terminal(s.Out)
	if !ok || !s.pager {
		write(s.Out)
		return
	}
	var b bytes.Buffer
	write(&b)
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil || bytes.Count(b.Bytes(), []byte{'\n'}) < int(size.Row) {
		s.Out.Write(b.Bytes())
		return
	}
	name := pagerName()
	cmd := exec.Command("/bin/sh", "-c", name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(b.Bytes()), tty, os.Stderr
	if cmd.Run() != nil && cmd.ProcessState == nil { // it could not even be started
		s.Out.Write(b.Bytes())
	}
}

func pagerName() string {
	for _, name := range []string{os.Getenv("OCCTL_PAGER"), os.Getenv("PAGER")} {
		if name != "" {
			return name
		}
	}
	return "less"
}
