package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// What the two machines name differently, or only one of them has.
var (
	pollCalls   = []uintptr{}
	statCalls   = []uintptr{}
	openCalls   = []uintptr{}
	renameCalls = []uintptr{}
	forkCalls   = []uintptr{}
	threadCalls = []uintptr{}
	portCalls   = []uintptr{}
)
