package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Traces are ways into another process. Each returns nil if it got in.
var traces = []struct {
	name string
	try  func(pid int) error
}{
	{"ptrace", func(pid int) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.PtraceSeize(pid); err != nil {
			return err
		}
		return nil // the process that tries ends soon, and with it the trace
	}},
	{"memory by /proc", func(pid int) error { return canOpen(pid, "mem", os.O_RDWR) }},
	{"environment", func(pid int) error { return canOpen(pid, "environ", os.O_RDONLY) }},
	{"map of memory", func(pid int) error { return canOpen(pid, "maps", os.O_RDONLY) }},
	{"descriptors by /proc", func(pid int) error { _, err := os.ReadDir(procFile(pid, "fd")); return err }},
	{"descriptor by pidfd", func(pid int) error {
		p, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(p)
		fd, err := unix.PidfdGetfd(p, 0, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}},
	{"memory by process_vm_readv", func(pid int) error {
		buf := make([]byte, 1)
		// No such address: with the right to look it is EFAULT, without EPERM.
		_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: 1}}, []unix.RemoteIovec{{Base: 1, Len: 1}}, 0)
		if err == unix.EFAULT {
			return nil
		}
		return err
	}},
}

func canOpen(pid int, name string, flag int) error {
	f, err := os.OpenFile(procFile(pid, name), flag, 0)
	if err == nil {
		f.Close()
	}
	return err
}

// Trace tries, as the server's own uid in this group, to get into processes, and
// returns by pid the ways that it got in by.
func Trace(gid int, pids ...int) (map[int][]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Others than root cannot read where tests are built.
	dir, err := os.MkdirTemp("", "roc-trace-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	exe := dir + "/trace"
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	argv := ordinary(gid, exe)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(slices.Clone(environment), roleVariable+"="+roleTrace)
	q, err := json.Marshal(pids)
	if err != nil {
		return nil, err
	}
	cmd.Stdin = strings.NewReader(string(q))
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	var got map[int][]string
	return got, json.Unmarshal(out, &got)
}

// trace is the role.
func trace(pids []int) (map[int][]string, error) {
	in := map[int][]string{}
	for _, pid := range pids {
		for _, t := range traces {
			if t.try(pid) == nil {
				in[pid] = append(in[pid], t.name)
			}
		}
	}
	return in, nil
}

// TraceWays is how many ways Trace tries.
func TraceWays() int { return len(traces) }

func ownedByRoot(st fs.FileInfo) bool { return st.Sys().(*syscall.Stat_t).Uid == 0 }
