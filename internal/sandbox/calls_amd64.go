package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// What the two machines name differently, or only one of them has.
var (
	pollCalls   = []uintptr{unix.SYS_EPOLL_WAIT, unix.SYS_POLL}
	statCalls   = []uintptr{unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_GETDENTS}
	openCalls   = []uintptr{unix.SYS_OPEN, unix.SYS_CREAT}
	renameCalls = []uintptr{unix.SYS_RENAME, unix.SYS_UNLINK}
	forkCalls   = []uintptr{unix.SYS_FORK, unix.SYS_VFORK}
	threadCalls = []uintptr{unix.SYS_ARCH_PRCTL}
	portCalls   = []uintptr{unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT}
)
