package mainproc

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// detachedEnv marks the process that detach started: it stays.
const detachedEnv = "ROCSERV_DETACHED"

// readyFD is where the detached process says that it is up.
const readyFD = 3

// background returns how to say that the server is up, in the process that
// detach started; nil in another.
func background() func() {
	if os.Getenv(detachedEnv) == "" {
		return nil
	}
	os.Unsetenv(detachedEnv)
	ready := os.NewFile(readyFD, "ready")
	return func() {
		ready.Write([]byte{1})
		ready.Close()
	}
}

// detach starts this program again with the same arguments, in a session of
// its own, and waits until that server is up. A fork without an exec is not
// possible in Go.
//
// Standard error stays: it is where the log goes.
func detach(exe string) (err error) {
	if exe == "" {
		if exe, err = selfExe(); err != nil {
			return err
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("mainproc: %w", err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("mainproc: %w", err)
	}
	defer r.Close()
	pid, err := syscall.ForkExec(exe, os.Args, &syscall.ProcAttr{
		Env:   append(os.Environ(), detachedEnv+"=1"),
		Files: []uintptr{null.Fd(), null.Fd(), 2, w.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return fmt.Errorf("mainproc: start in the background: %w", err)
	}
	b, err := io.ReadAll(r)
	if err != nil || len(b) == 0 {
		var status syscall.WaitStatus
		syscall.Wait4(pid, &status, 0, nil)
		return fmt.Errorf("mainproc: the server did not start (status %d)", status.ExitStatus())
	}
	return nil
}
