package lab

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// What only this machine has.
var (
	forbiddenHere = []uintptr{unix.SYS_SYSFS, unix.SYS_USELIB, unix.SYS_USTAT, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_QUERY_MODULE}
	unknownHere   = []uintptr{
		unix.SYS__SYSCTL, unix.SYS_CREATE_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_GETPMSG, unix.SYS_PUTPMSG,
		unix.SYS_AFS_SYSCALL, unix.SYS_TUXCALL, unix.SYS_SECURITY, unix.SYS_VSERVER, unix.SYS_URETPROBE, unix.SYS_UPROBE,
	}
)
