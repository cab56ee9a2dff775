package sandbox

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// seccompData is struct seccomp_data as bpf.VM reads it: big endian words.
func seccompData(arch uint32, nr uintptr, args ...uint64) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[offNumber:], uint32(nr))
	binary.BigEndian.PutUint32(b[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[offArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[offArgs+8*i+4:], uint32(a>>32))
	}
	return b
}

// instructions is a filter as bpf.VM takes it.
func instructions(f *filter) []bpf.Instruction {
	var all []bpf.Instruction
	for _, i := range f.assemble() {
		all = append(all, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K}.Disassemble())
	}
	return all
}

func decide(t *testing.T, f *filter, arch uint32, nr uintptr, args ...uint64) verdict {
	t.Helper()
	vm, err := bpf.NewVM(instructions(f))
	if err != nil {
		t.Fatal(err)
	}
	v, err := vm.Run(seccompData(arch, nr, args...))
	if err != nil {
		t.Fatal(err)
	}
	return verdict(uint32(v))
}

func TestVerdicts(t *testing.T) {
	if auditArch == 0 {
		t.Skip("no list for this machine")
	}
	self, other := uint64(os.Getpid()), uint64(os.Getppid())
	const (
		v4, v6, local, netlink, packet = unix.AF_INET, unix.AF_INET6, unix.AF_UNIX, unix.AF_NETLINK, unix.AF_PACKET
		stream, dgram, raw             = unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW
		flags                          = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
		thread                         = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD
		high                           = 1 << 32
	)
	type args []uint64
	tests := []struct {
		name                 string
		nr                   uintptr
		args                 args
		worker, secmod, main verdict
	}{
		{"read", unix.SYS_READ, nil, allow, allow, allow},
		{"futex", unix.SYS_FUTEX, nil, allow, allow, allow},
		{"sendmmsg", unix.SYS_SENDMMSG, nil, allow, denied, allow},
		{"TCP", unix.SYS_SOCKET, args{v4, stream | flags, unix.IPPROTO_TCP}, allow, denied, allow},
		{"TCP, protocol 0", unix.SYS_SOCKET, args{v6, stream, 0}, allow, denied, allow},
		{"UDP", unix.SYS_SOCKET, args{v6, dgram | flags, unix.IPPROTO_UDP}, allow, denied, allow},
		{"ping", unix.SYS_SOCKET, args{v4, dgram | flags, unix.IPPROTO_ICMP}, allow, denied, allow},
		{"ping6", unix.SYS_SOCKET, args{v6, dgram | flags, unix.IPPROTO_ICMPV6}, allow, denied, allow},
		{"ping6 on IPv4", unix.SYS_SOCKET, args{v4, dgram, unix.IPPROTO_ICMPV6}, denied, denied, allow},
		{"raw ICMP", unix.SYS_SOCKET, args{v4, raw, unix.IPPROTO_ICMP}, denied, denied, allow},
		{"raw IPv6", unix.SYS_SOCKET, args{v6, raw | flags, unix.IPPROTO_TCP}, denied, denied, allow},
		{"SCTP", unix.SYS_SOCKET, args{v4, stream, unix.IPPROTO_SCTP}, denied, denied, allow},
		{"MPTCP", unix.SYS_SOCKET, args{v4, stream, unix.IPPROTO_MPTCP}, denied, denied, allow},
		{"a shared port", unix.SYS_SETSOCKOPT, args{5, unix.SOL_SOCKET, unix.SO_REUSEPORT}, denied, allow, allow},
		{"a shared address", unix.SYS_SETSOCKOPT, args{5, unix.SOL_SOCKET, unix.SO_REUSEADDR}, denied, allow, allow},
		{"a buffer", unix.SYS_SETSOCKOPT, args{5, unix.SOL_SOCKET, unix.SO_RCVBUF}, allow, allow, allow},
		{"SEQPACKET", unix.SYS_SOCKET, args{v4, unix.SOCK_SEQPACKET, 0}, denied, denied, allow},
		{"unix socket", unix.SYS_SOCKET, args{local, stream, 0}, denied, denied, allow},
		{"netlink", unix.SYS_SOCKET, args{netlink, raw, 0}, denied, denied, allow},
		{"packet socket", unix.SYS_SOCKET, args{packet, raw, 0}, denied, denied, allow},
		{"listen", unix.SYS_LISTEN, nil, denied, denied, allow},
		{"openat", unix.SYS_OPENAT, nil, denied, allow, allow},
		{"getdents64", unix.SYS_GETDENTS64, nil, denied, allow, allow},
		{"rename", unix.SYS_RENAMEAT2, nil, kill, allow, allow},
		{"linkat", unix.SYS_LINKAT, nil, kill, denied, allow},
		{"memfd_create", unix.SYS_MEMFD_CREATE, nil, denied, allow, allow},
		{"thread", unix.SYS_CLONE, args{thread}, allow, allow, allow},
		{"fork", unix.SYS_CLONE, args{uint64(unix.SIGCHLD)}, kill, kill, allow},
		{"vfork", unix.SYS_CLONE, args{unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD)}, kill, kill, allow},
		{"user namespace", unix.SYS_CLONE, args{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, kill, kill, denied},
		{"network namespace", unix.SYS_CLONE, args{unix.CLONE_NEWNET}, kill, kill, denied},
		{"clone3", unix.SYS_CLONE3, nil, absent, absent, absent},
		{"execve", unix.SYS_EXECVE, nil, kill, kill, allow},
		{"execveat", unix.SYS_EXECVEAT, nil, kill, kill, allow},
		{"ptrace", unix.SYS_PTRACE, nil, kill, kill, denied},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, nil, kill, kill, denied},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, nil, kill, kill, denied},
		{"tgkill of its own", unix.SYS_TGKILL, args{self, 1, 23}, allow, allow, allow},
		{"tgkill of another", unix.SYS_TGKILL, args{other, 1, 9}, kill, kill, allow},
		{"kill of itself", unix.SYS_KILL, args{self, 6}, allow, allow, allow},
		{"kill of another", unix.SYS_KILL, args{other, 9}, kill, kill, allow},
		{"kill of all", unix.SYS_KILL, args{1<<64 - 1, 9}, kill, kill, allow},
		{"memory", unix.SYS_MMAP, args{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allow, allow, allow},
		{"executable memory", unix.SYS_MMAP, args{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, kill, kill, allow},
		{"executable later", unix.SYS_MPROTECT, args{0, 4096, unix.PROT_EXEC | high}, kill, kill, allow},
		{"names of mappings", unix.SYS_PRCTL, args{unix.PR_SET_VMA}, allow, allow, allow},
		{"late timers", unix.SYS_PRCTL, args{unix.PR_SET_TIMERSLACK, 50000}, allow, denied, allow},
		{"dumpable again", unix.SYS_PRCTL, args{unix.PR_SET_DUMPABLE, 1}, denied, denied, allow},
		{"own limit", unix.SYS_PRLIMIT64, args{0, unix.RLIMIT_NOFILE}, allow, allow, allow},
		{"another's limit", unix.SYS_PRLIMIT64, args{other}, denied, denied, allow},
		{"SIOCOUTQ", unix.SYS_IOCTL, args{5, unix.SIOCOUTQ}, allow, denied, allow},
		{"TIOCSTI", unix.SYS_IOCTL, args{0, unix.TIOCSTI}, denied, denied, allow},
		{"bpf", unix.SYS_BPF, nil, kill, kill, denied},
		{"io_uring", unix.SYS_IO_URING_SETUP, nil, kill, kill, denied},
		{"unshare", unix.SYS_UNSHARE, nil, kill, kill, denied},
		{"setns", unix.SYS_SETNS, nil, kill, kill, denied},
		{"setuid", unix.SYS_SETUID, nil, kill, kill, allow},
		{"keyctl", unix.SYS_KEYCTL, nil, kill, kill, denied},
		{"a call nobody knows yet", 4000, nil, kill, denied, allow},
		{"x32", x32Bit | unix.SYS_READ, nil, absent, absent, absent},
	}
	for _, tt := range tests {
		for _, p := range []struct {
			name string
			f    *filter
			want verdict
		}{{"worker", workerFilter(), tt.worker}, {"secmod", secModFilter(), tt.secmod}, {"main", mainFilter(), tt.main}} {
			if got := decide(t, p.f, auditArch, tt.nr, tt.args...); got != p.want {
				t.Errorf("%s: %s: %#x, want %#x", p.name, tt.name, got, p.want)
			}
		}
	}
	for name, f := range map[string]*filter{"worker": workerFilter(), "secmod": secModFilter(), "helper": helperFilter()} {
		if got := decide(t, f, auditArch^1, unix.SYS_READ); got != kill {
			t.Errorf("%s: another machine's read: %#x", name, got)
		}
	}
	if got := decide(t, mainFilter(), auditArch^1, unix.SYS_READ); got != allow {
		t.Errorf("main: a 32-bit script's read: %#x", got)
	}
}

// A login helper has the network, and of files what Landlock leaves it; what only
// an attacker tries is the end of it.
func TestHelperVerdicts(t *testing.T) {
	if auditArch == 0 {
		t.Skip("no list for this machine")
	}
	const v4, v6, flags = unix.AF_INET, unix.AF_INET6, unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	for _, tt := range []struct {
		name string
		nr   uintptr
		args []uint64
		want verdict
	}{
		{"UDP", unix.SYS_SOCKET, []uint64{v4, unix.SOCK_DGRAM | flags, 0}, allow},
		{"TCP", unix.SYS_SOCKET, []uint64{v6, unix.SOCK_STREAM | flags, unix.IPPROTO_TCP}, allow},
		{"ping", unix.SYS_SOCKET, []uint64{v4, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, denied},
		{"raw", unix.SYS_SOCKET, []uint64{v4, unix.SOCK_RAW, unix.IPPROTO_TCP}, denied},
		{"unix socket", unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, denied},
		{"netlink", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, denied},
		{"connect", unix.SYS_CONNECT, nil, allow},
		{"listen", unix.SYS_LISTEN, nil, denied},
		{"openat", unix.SYS_OPENAT, nil, allow},
		{"rename", unix.SYS_RENAMEAT2, nil, denied},
		{"execve", unix.SYS_EXECVE, nil, kill},
		{"fork", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, kill},
		{"ptrace", unix.SYS_PTRACE, nil, kill},
		{"executable memory", unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, kill},
		{"bpf", unix.SYS_BPF, nil, kill},
	} {
		if got := decide(t, helperFilter(), auditArch, tt.nr, tt.args...); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
}

// A helper that loads modules may do so, and these may try in vain what needs root.
func TestModulesVerdicts(t *testing.T) {
	if auditArch == 0 {
		t.Skip("no list for this machine")
	}
	const code = unix.PROT_READ | unix.PROT_EXEC
	for _, tt := range []struct {
		name string
		nr   uintptr
		args []uint64
		want verdict
	}{
		{"a library", unix.SYS_MMAP, []uint64{0, 4096, code, unix.MAP_PRIVATE}, allow},
		{"code that was written", unix.SYS_MMAP, []uint64{0, 4096, code | unix.PROT_WRITE, unix.MAP_PRIVATE}, kill},
		{"code of no file", unix.SYS_MMAP, []uint64{0, 4096, code, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS}, kill},
		{"data that becomes code", unix.SYS_MPROTECT, []uint64{0, 4096, code}, kill},
		{"UDP", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_DGRAM, 0}, allow},
		{"unix socket", unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, allow},
		{"audit", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, unsupported},
		{"raw", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP}, denied},
		{"thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
		{"fork", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, denied},
		{"execve", unix.SYS_EXECVE, nil, denied},
		{"setresuid", unix.SYS_SETRESUID, nil, denied},
		{"rename", unix.SYS_RENAMEAT2, nil, denied},
		{"ptrace", unix.SYS_PTRACE, nil, kill},
		{"bpf", unix.SYS_BPF, nil, kill},
	} {
		if got := decide(t, modulesFilter(), auditArch, tt.nr, tt.args...); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
}

// Every rule says why and has calls, and the kernel takes each program. A worker's
// is written where there is room for it.
func TestRules(t *testing.T) {
	for role, p := range profiles {
		f := p.calls()
		for _, r := range f.rules {
			if r.why == "" || len(r.calls) == 0 {
				t.Errorf("%s: rule %q with %d calls", role, r.why, len(r.calls))
			}
		}
		prog := f.assemble()
		if n := len(prog); n > 4096 {
			t.Errorf("%s: %d instructions, the kernel takes 4096", role, n)
		}
		if role == Worker && cap(prog) != usual {
			t.Errorf("%s: %d instructions, with room for %d", role, len(prog), usual)
		}
		// A jump that leaves the program is found here.
		if auditArch != 0 {
			if _, err := bpf.NewVM(instructions(f)); err != nil {
				t.Errorf("%s: %v", role, err)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Isolate: true}, {Isolate: true, Require: true, LimitMemory: true}, {LimitMemory: true}, {Isolate: true, OpenFiles: 12000}} {
		got, err := ParseArgs(o.Args())
		if err != nil || got != o {
			t.Errorf("%v: %v, %v", o, got, err)
		}
	}
	if _, err := ParseArgs([]string{"isolate", "nonsense"}); err == nil {
		t.Error("an unknown argument was taken")
	}
	for _, files := range []string{"files=", "files=0", "files=x"} {
		if _, err := ParseArgs([]string{files}); err == nil {
			t.Errorf("%s was taken", files)
		}
	}
	if (Options{Require: true}).Check() == nil || (Options{Require: true, Isolate: true}).Check() != nil {
		t.Error("Check is wrong about require without isolate")
	}
}
