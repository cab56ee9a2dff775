package lab

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What podman's default profile refuses to a container without capabilities
// (seccomp.json of containers-common 0.50, which Debian 12 has). What is not
// named here is allowed, Landlock among it.
var (
	// forbidden fail with EPERM.
	forbidden = []uintptr{
		unix.SYS_IO_PGETEVENTS, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_KEXEC_LOAD, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
		unix.SYS_NFSSERVCTL, unix.SYS_SWAPOFF, unix.SYS_SWAPON, unix.SYS_USERFAULTFD, unix.SYS_VMSPLICE,
		unix.SYS_OPEN_BY_HANDLE_AT,                                                                                 // CAP_DAC_READ_SEARCH
		unix.SYS_BPF, unix.SYS_FANOTIFY_INIT, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_PERF_EVENT_OPEN, unix.SYS_QUOTACTL, // CAP_SYS_ADMIN
		unix.SYS_SETDOMAINNAME, unix.SYS_SETHOSTNAME, // CAP_SYS_ADMIN
		unix.SYS_CHROOT,                                                     // CAP_SYS_CHROOT
		unix.SYS_DELETE_MODULE, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, // CAP_SYS_MODULE
		unix.SYS_ACCT,                           // CAP_SYS_PACCT
		unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE, // CAP_SYS_PTRACE
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, // CAP_SYS_TIME
		unix.SYS_VHANGUP, // CAP_SYS_TTY_CONFIG
	}
	// unknown fail with ENOSYS, as does what is newer than the profile.
	unknown = []uintptr{
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_QUOTACTL_FD,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	}
)

// firstNewer is the first call that is newer than the profile.
const firstNewer = unix.SYS_FUTEX_WAITV

// Offsets in struct seccomp_data.
const (
	seccompNumber = 0
	seccompArch   = 4
	seccompArgs   = 16
)

const (
	refuseEPERM  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	refuseENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	refuseEINVAL = unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)
)

// podmanProfile is the profile as a program, refusing more calls with ENOSYS.
func podmanProfile(more ...uintptr) []bpf.Instruction {
	load := func(off int) bpf.Instruction { return bpf.LoadAbsolute{Off: uint32(off), Size: 4} }
	prog := []bpf.Instruction{
		load(seccompArch),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: refuseENOSYS}, // a 32-bit program's, which the server is not
		load(seccompNumber),
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: firstNewer, SkipFalse: 1}, // also the calls of x32
		bpf.RetConstant{Val: refuseENOSYS},
	}
	for _, list := range []struct {
		calls  []uintptr
		answer uint32
	}{{forbidden, refuseEPERM}, {unknown, refuseENOSYS}, {forbiddenHere, refuseEPERM}, {unknownHere, refuseENOSYS}, {more, refuseENOSYS}} {
		for _, nr := range list.calls {
			prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(nr), SkipFalse: 1}, bpf.RetConstant{Val: list.answer})
		}
	}
	// The audit log is not for containers.
	prog = append(prog,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_SOCKET, SkipFalse: 5},
		load(seccompArgs), bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_NETLINK, SkipFalse: 3},
		load(seccompArgs+2*8), bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NETLINK_AUDIT, SkipFalse: 1},
		bpf.RetConstant{Val: refuseEINVAL},
		load(seccompNumber))
	// The personalities of Linux, of 32 bits, of version 2.6, and the question which it is.
	const linux, bits32, uname26, which = 0, 8, 0x20000, 0xffffffff
	personalities := []uint32{linux, bits32, uname26, uname26 | bits32, which}
	prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_PERSONALITY, SkipFalse: uint8(1 + len(personalities) + 1)}, load(seccompArgs))
	for i, p := range personalities {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: p, SkipTrue: uint8(len(personalities) - i)})
	}
	return append(prog, bpf.RetConstant{Val: refuseENOSYS}, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}

// compiled is a program as bwrap --seccomp reads it: an array of struct
// sock_filter, whose machines are little endian.
func compiled(prog []bpf.Instruction) ([]byte, error) {
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, i := range raw {
		if err := binary.Write(&b, binary.LittleEndian, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K}); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
