package sandbox

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// runtimeRules are what the Go runtime needs in every confined process, with
// and without cgo, and what it or a library tries and can do without.
func runtimeRules() []rule {
	self := uint32(os.Getpid())
	return []rule{
		{why: "reading and writing of descriptors it has", then: allow, calls: []uintptr{
			unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_LSEEK, unix.SYS_FSTAT}},
		{why: "waiting: the runtime's locks, timers and poller", then: allow, calls: slices.Concat(pollCalls, []uintptr{
			unix.SYS_FUTEX, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2, unix.SYS_PPOLL,
			unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY, unix.SYS_SCHED_YIELD, unix.SYS_RESTART_SYSCALL})},
		{why: "messages and descriptors on channels it has", then: allow, calls: []uintptr{
			unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SHUTDOWN,
			unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT, unix.SYS_FCNTL}},
		{why: "memory, none of it executable", then: allow, calls: []uintptr{unix.SYS_MMAP, unix.SYS_MPROTECT},
			when: []match{{lacks(2, unix.PROT_EXEC)}}},
		{why: "memory", then: allow, calls: []uintptr{unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_MREMAP}},
		{why: "the runtime names its mappings", then: allow, calls: []uintptr{unix.SYS_PRCTL}, when: []match{{is(0, unix.PR_SET_VMA)}}},
		{why: "threads, and no processes", then: allow, calls: []uintptr{unix.SYS_CLONE}, when: []match{{has(0, unix.CLONE_THREAD)}}},
		{why: "C libraries try it first and then clone, whose flags can be seen", then: absent, calls: []uintptr{unix.SYS_CLONE3}},
		{why: "a thread's own state", then: allow, calls: slices.Concat(threadCalls, []uintptr{
			unix.SYS_GETTID, unix.SYS_SIGALTSTACK, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN,
			unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_MEMBARRIER, unix.SYS_EXIT, unix.SYS_EXIT_GROUP})},
		{why: "signals to its own threads: preemption, a crash", then: allow, calls: []uintptr{unix.SYS_TGKILL, unix.SYS_KILL},
			when: []match{{is(0, self)}}},
		{why: "its own numbers and limits", then: allow, calls: []uintptr{
			unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
			unix.SYS_GETRUSAGE, unix.SYS_SYSINFO, unix.SYS_UNAME, unix.SYS_SCHED_GETAFFINITY}},
		{why: "its own limits", then: allow, calls: []uintptr{unix.SYS_PRLIMIT64}, when: []match{{is(0, 0)}}},
		{why: "random numbers", then: allow, calls: []uintptr{unix.SYS_GETRANDOM}},
		{why: "copies of descriptors", then: allow, calls: []uintptr{unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2}},
	}
}

// neverRules are what nobody tries by accident: the process is not itself any more.
func neverRules() []rule {
	return []rule{
		{why: "another program", then: kill, calls: slices.Concat(forkCalls, []uintptr{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_CLONE})},
		{why: "another process", then: kill, calls: []uintptr{
			unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD,
			unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE, unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_TGKILL,
			unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO}},
		{why: "code that was not in the program", then: kill, calls: []uintptr{unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_PKEY_MPROTECT}},
		{why: "new kernel interfaces, where its bugs are", then: kill, calls: []uintptr{
			unix.SYS_BPF, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_USERFAULTFD,
			unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY}},
		{why: "another place", then: kill, calls: []uintptr{
			unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
			unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FSOPEN, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE}},
		{why: "another user", then: kill, calls: []uintptr{
			unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_CAPSET}},
	}
}

// fileCalls are looking for files and opening them: in a worker tried by
// libraries in vain, in sec-mod what Landlock says more about.
var fileCalls = slices.Concat(openCalls, statCalls, []uintptr{
	unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT,
	unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_STATFS, unix.SYS_FSTATFS})

// workerFilter: a call without a rule ends the worker.
func workerFilter() *filter {
	const v4, v6 = unix.AF_INET, unix.AF_INET6
	// The type's low half without SOCK_NONBLOCK and SOCK_CLOEXEC.
	stream := masked(1, 0xf, unix.SOCK_STREAM)
	dgram := masked(1, 0xf, unix.SOCK_DGRAM)
	return &filter{otherwise: kill, foreign: kill, rules: slices.Concat(
		[]rule{
			{why: "a share of the server's own port, and so of all clients' datagrams", then: denied, calls: []uintptr{unix.SYS_SETSOCKOPT},
				when: []match{{is(1, unix.SOL_SOCKET), is(2, unix.SO_REUSEPORT)}, {is(1, unix.SOL_SOCKET), is(2, unix.SO_REUSEADDR)}}},
			{why: "the client's and the outside's datagrams, in batches", then: allow, calls: []uintptr{unix.SYS_SENDMMSG, unix.SYS_RECVMMSG}},
			{why: "timers that are on time, once there are packets", then: allow, calls: []uintptr{unix.SYS_PRCTL}, when: []match{{is(0, unix.PR_SET_TIMERSLACK)}}},
		},
		runtimeRules(),
		[]rule{
			{why: "ways out: TCP, UDP and ping sockets", then: allow, calls: []uintptr{unix.SYS_SOCKET}, when: []match{
				{is(0, v4), stream, is(2, 0)}, {is(0, v4), stream, is(2, unix.IPPROTO_TCP)},
				{is(0, v6), stream, is(2, 0)}, {is(0, v6), stream, is(2, unix.IPPROTO_TCP)},
				{is(0, v4), dgram, is(2, 0)}, {is(0, v4), dgram, is(2, unix.IPPROTO_UDP)}, {is(0, v4), dgram, is(2, unix.IPPROTO_ICMP)},
				{is(0, v6), dgram, is(2, 0)}, {is(0, v6), dgram, is(2, unix.IPPROTO_UDP)}, {is(0, v6), dgram, is(2, unix.IPPROTO_ICMPV6)},
			}},
			{why: "other sockets: the net package tries some", then: denied, calls: []uintptr{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR}},
			{why: "ways out: to bind and connect them", then: allow, calls: []uintptr{unix.SYS_BIND, unix.SYS_CONNECT}},
			{why: "a worker waits for nobody", then: denied, calls: []uintptr{unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4}},
			{why: "bytes from one socket to another", then: allow, calls: []uintptr{unix.SYS_SPLICE, unix.SYS_SENDFILE}},
			{why: "how much a socket still holds", then: allow, calls: []uintptr{unix.SYS_IOCTL}, when: []match{
				{is(1, unix.SIOCINQ)}, {is(1, unix.SIOCOUTQ)}}},
			{why: "tried by libraries in vain", then: denied, calls: slices.Concat(fileCalls, []uintptr{
				unix.SYS_IOCTL, unix.SYS_PRCTL, unix.SYS_PRLIMIT64, unix.SYS_MEMFD_CREATE})},
		},
		neverRules(),
	)}
}

// secModFilter: a call without a rule fails. That is milder than in a worker,
// since the end of sec-mod is felt by everybody, and no stranger's bytes get
// further than its messages.
func secModFilter() *filter {
	return &filter{otherwise: denied, foreign: kill, rules: slices.Concat(
		runtimeRules(),
		[]rule{
			{why: "certificates, keys, users and their settings", then: allow, calls: fileCalls},
			{why: "state that a login method keeps in a file", then: allow, calls: slices.Concat(renameCalls, []uintptr{
				unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT,
				unix.SYS_FCHMOD, unix.SYS_FLOCK})},
			{why: "sealed messages to workers", then: allow, calls: []uintptr{unix.SYS_MEMFD_CREATE}},
		},
		neverRules(),
	)}
}

// helperFilter: a call without a rule fails. A login helper talks to servers of
// the operator's, and its libraries try more than is foreseen.
func helperFilter() *filter {
	const v4, v6 = unix.AF_INET, unix.AF_INET6
	stream := masked(1, 0xf, unix.SOCK_STREAM)
	dgram := masked(1, 0xf, unix.SOCK_DGRAM)
	return &filter{otherwise: denied, foreign: kill, rules: slices.Concat(
		runtimeRules(),
		[]rule{
			{why: "the method's servers, and the DNS's: TCP and UDP", then: allow, calls: []uintptr{unix.SYS_SOCKET}, when: []match{
				{is(0, v4), stream, is(2, 0)}, {is(0, v4), stream, is(2, unix.IPPROTO_TCP)},
				{is(0, v6), stream, is(2, 0)}, {is(0, v6), stream, is(2, unix.IPPROTO_TCP)},
				{is(0, v4), dgram, is(2, 0)}, {is(0, v4), dgram, is(2, unix.IPPROTO_UDP)},
				{is(0, v6), dgram, is(2, 0)}, {is(0, v6), dgram, is(2, unix.IPPROTO_UDP)},
			}},
			{why: "to bind and connect them", then: allow, calls: []uintptr{unix.SYS_BIND, unix.SYS_CONNECT}},
			{why: "a helper waits for nobody on a stream", then: denied, calls: []uintptr{unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4}},
			{why: "files the method named when it was configured", then: allow, calls: fileCalls},
		},
		neverRules(),
	)}
}

// modulesFilter: as helperFilter, for libraries that are loaded when they are needed,
// and try what works for root only.
func modulesFilter() *filter {
	f := helperFilter()
	f.rules = append([]rule{
		{why: "libraries of files that it may read", then: allow, calls: []uintptr{unix.SYS_MMAP},
			when: []match{{has(2, unix.PROT_EXEC), lacks(2, unix.PROT_WRITE), lacks(3, unix.MAP_ANONYMOUS)}}},
		{why: "the host's services: who users are, a directory's cache", then: allow, calls: []uintptr{unix.SYS_SOCKET}, when: []match{{is(0, unix.AF_UNIX)}}},
		{why: "the kernel's audit: libpam goes on if there is none", then: unsupported, calls: []uintptr{unix.SYS_SOCKET}, when: []match{{is(0, unix.AF_NETLINK)}}},
		{why: "threads, and no processes", then: allow, calls: []uintptr{unix.SYS_CLONE}, when: []match{{has(0, unix.CLONE_THREAD)}}},
		{why: "modules that start a program or become another user", then: denied, calls: slices.Concat(forkCalls, []uintptr{
			unix.SYS_CLONE, unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID,
			unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETGROUPS, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY})},
	}, f.rules...)
	return f
}

// mainFilter takes away what neither main nor a script that it starts needs:
// a filter stays through every exec. What it lists fails, all else goes on.
func mainFilter() *filter {
	const spaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	return &filter{otherwise: allow, foreign: allow, rules: []rule{
		{why: "processes", then: allow, calls: []uintptr{unix.SYS_CLONE}, when: []match{{lacks(0, spaces)}}},
		{why: "C libraries try it first and then clone, whose flags can be seen", then: absent, calls: []uintptr{unix.SYS_CLONE3}},
		{why: "another place", then: denied, calls: []uintptr{
			unix.SYS_CLONE, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
			unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
			unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT}},
		{why: "another process's memory and descriptors", then: denied, calls: []uintptr{
			unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE}},
		{why: "new kernel interfaces, where its bugs are", then: denied, calls: []uintptr{
			unix.SYS_BPF, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_USERFAULTFD,
			unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY}},
		{why: "the machine", then: denied, calls: slices.Concat(portCalls, []uintptr{
			unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON,
			unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX,
			unix.SYS_CLOCK_ADJTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SYSLOG, unix.SYS_VHANGUP})},
	}}
}
