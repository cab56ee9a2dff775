package hostile

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func sendOnly(fd int, b []byte) error { return unix.Sendmsg(fd, b, nil, nil, unix.MSG_DONTWAIT) }

// kernelAttempts are system calls. A worker at any stage is as confined.
func kernelAttempts() []Attempt {
	all := []string{Pooled, Handshake, Login, Tunnel}
	one := []string{Handshake}
	read := func(name func(*Order) string) func(*taken, *Order) error {
		return func(_ *taken, o *Order) error { _, err := os.ReadFile(name(o)); return err }
	}
	file := func(name string) func(*taken, *Order) error { return read(func(*Order) string { return name }) }
	socket := func(domain, kind, proto int) func(*taken, *Order) error {
		return func(*taken, *Order) error { _, err := unix.Socket(domain, kind, proto); return err }
	}
	call := func(nr uintptr, args ...uintptr) func(*taken, *Order) error {
		return func(*taken, *Order) error {
			a := append(args, 0, 0, 0, 0, 0, 0)
			_, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
			if errno != 0 {
				return errno
			}
			return nil
		}
	}
	return []Attempt{
		{"kernel: the private key", all, Refused, read(func(o *Order) string { return o.Key })},
		{"kernel: the configuration", all, Refused, read(func(o *Order) string { return o.Config })},
		{"kernel: any file", one, Refused, file("/etc/passwd")},
		{"kernel: its own memory by /proc", one, Refused, file("/proc/self/mem")},
		{"kernel: sec-mod's memory by /proc", one, Refused, read(func(o *Order) string { return "/proc/" + strconv.Itoa(o.SecMod) + "/mem" })},
		{"kernel: sec-mod's environment", one, Refused, read(func(o *Order) string { return "/proc/" + strconv.Itoa(o.SecMod) + "/environ" })},
		{"kernel: a list of files", one, Refused, func(*taken, *Order) error { _, err := os.ReadDir("/"); return err }},
		{"kernel: a new file", one, Refused, func(*taken, *Order) error { return os.WriteFile("/tmp/rocserv-hostile", nil, 0o600) }},
		{"kernel: a file without a name", one, Refused, func(*taken, *Order) error { _, err := unix.MemfdCreate("x", 0); return err }},
		{"kernel: another program", all, Ended, func(*taken, *Order) error { return syscall.Exec("/bin/sh", []string{"sh"}, nil) }},
		{"kernel: a process", one, Ended, call(unix.SYS_CLONE, uintptr(unix.SIGCHLD))},
		{"kernel: a user namespace", one, Ended, call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
		{"kernel: another's namespace", one, Ended, call(unix.SYS_SETNS)},
		{"kernel: tracing sec-mod", all, Ended, func(_ *taken, o *Order) error { return unix.PtraceAttach(o.SecMod) }},
		{"kernel: tracing another worker", one, Ended, func(_ *taken, o *Order) error { return unix.PtraceAttach(o.Other) }},
		{"kernel: another worker's memory", one, Ended, func(_ *taken, o *Order) error {
			b := make([]byte, 1)
			_, err := unix.ProcessVMReadv(o.Other, []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: 1, Len: 1}}, 0)
			return err
		}},
		{"kernel: another worker's descriptors", one, Ended, func(_ *taken, o *Order) error { _, err := unix.PidfdOpen(o.Other, 0); return err }},
		{"kernel: the end of main", one, Ended, func(_ *taken, o *Order) error { return unix.Kill(o.Main, unix.SIGKILL) }},
		{"kernel: the end of sec-mod", one, Ended, func(_ *taken, o *Order) error { return unix.Kill(o.SecMod, unix.SIGKILL) }},
		{"kernel: the end of another worker", all, Ended, func(_ *taken, o *Order) error { return unix.Kill(o.Other, unix.SIGKILL) }},
		{"kernel: the end of everybody", one, Ended, func(*taken, *Order) error { return unix.Kill(-1, unix.SIGKILL) }},
		{"kernel: a signal to a thread of main", one, Ended, func(_ *taken, o *Order) error { return unix.Tgkill(o.Main, o.Main, unix.SIGTERM) }},
		{"kernel: main's limits", one, Refused, func(_ *taken, o *Order) error {
			return unix.Prlimit(o.Main, unix.RLIMIT_NOFILE, &unix.Rlimit{}, nil)
		}},
		{"kernel: to be dumpable again", one, Refused, func(*taken, *Order) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }},
		{"kernel: code of its own", one, Ended, call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE, ^uintptr(0))},
		{"kernel: io_uring", one, Ended, call(unix.SYS_IO_URING_SETUP, 1)},
		{"kernel: bpf", one, Ended, call(unix.SYS_BPF)},
		{"kernel: keys", one, Ended, call(unix.SYS_KEYCTL)},
		{"kernel: to be root", one, Ended, call(unix.SYS_SETUID, 0)},
		{"kernel: a socket in the file system", all, Refused, func(*taken, *Order) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			return unix.Connect(fd, &unix.SockaddrUnix{Name: "/var/run/occtl.socket"})
		}},
		{"kernel: netlink", one, Refused, socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)},
		{"kernel: a raw socket", all, Refused, socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"kernel: a packet socket", one, Refused, socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"kernel: to wait for connections", one, Refused, func(*taken, *Order) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
				return err
			}
			return unix.Listen(fd, 1)
		}},
		{"kernel: the server's own UDP port", all, Refused, sharePort},
		{"kernel: a channel that is not its own", all, Refused, otherChannel},
	}
}

// sharePort would get datagrams of all clients.
func sharePort(_ *taken, o *Order) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	shared := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: o.Port}); err != nil {
		return errors.Join(shared, err)
	}
	return nil
}

// otherChannel looks for a socket among its descriptors that is neither its
// client's nor one of its two channels.
func otherChannel(t *taken, _ *Order) error {
	const channels = 2
	seen := map[uint64]bool{}
	for fd := range 1024 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			seen[st.Ino] = true
		}
	}
	own := channels
	if t.client != nil {
		own++
	}
	if len(seen) > own {
		return nil
	}
	return errors.New("has nothing else")
}
