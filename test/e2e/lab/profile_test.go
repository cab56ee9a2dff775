package lab

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func TestPodmanProfile(t *testing.T) {
	vm, err := bpf.NewVM(podmanProfile())
	if err != nil {
		t.Fatal(err)
	}
	without, err := bpf.NewVM(podmanProfile(NoLandlock...))
	if err != nil {
		t.Fatal(err)
	}
	type args []uint32
	for _, k := range []struct {
		name string
		arch uint32
		nr   uintptr
		args args
		want uint32
	}{
		{"read", auditArch, unix.SYS_READ, nil, unix.SECCOMP_RET_ALLOW},
		{"seccomp", auditArch, unix.SYS_SECCOMP, nil, unix.SECCOMP_RET_ALLOW},
		{"Landlock", auditArch, unix.SYS_LANDLOCK_CREATE_RULESET, nil, unix.SECCOMP_RET_ALLOW},
		{"the newest it knows", auditArch, unix.SYS_PROCESS_MRELEASE, nil, unix.SECCOMP_RET_ALLOW},
		{"newer", auditArch, unix.SYS_FUTEX_WAITV, nil, refuseENOSYS},
		{"the newest of all", auditArch, 10_000, nil, refuseENOSYS},
		{"io_uring", auditArch, unix.SYS_IO_URING_SETUP, nil, refuseENOSYS},
		{"another's mappings", auditArch, unix.SYS_KCMP, nil, refuseEPERM},
		{"bpf", auditArch, unix.SYS_BPF, nil, refuseEPERM},
		{"another machine's", auditArch + 1, unix.SYS_READ, nil, refuseENOSYS},
		{"netlink", auditArch, unix.SYS_SOCKET, args{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, unix.SECCOMP_RET_ALLOW},
		{"protocol 9", auditArch, unix.SYS_SOCKET, args{unix.AF_INET, unix.SOCK_RAW, unix.NETLINK_AUDIT}, unix.SECCOMP_RET_ALLOW},
		{"audit", auditArch, unix.SYS_SOCKET, args{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, refuseEINVAL},
		{"personality", auditArch, unix.SYS_PERSONALITY, args{0}, unix.SECCOMP_RET_ALLOW},
		{"which personality", auditArch, unix.SYS_PERSONALITY, args{0xffffffff}, unix.SECCOMP_RET_ALLOW},
		{"no randomization", auditArch, unix.SYS_PERSONALITY, args{0x40000}, refuseENOSYS},
	} {
		data := make([]byte, seccompArgs+6*8) // as bpf.VM reads it: big endian words
		binary.BigEndian.PutUint32(data[seccompNumber:], uint32(k.nr))
		binary.BigEndian.PutUint32(data[seccompArch:], k.arch)
		for i, a := range k.args {
			binary.BigEndian.PutUint32(data[seccompArgs+8*i:], a)
		}
		if got, err := vm.Run(data); err != nil || uint32(got) != k.want {
			t.Errorf("%s: %#x, %v; want %#x", k.name, got, err, k.want)
		}
		if k.name == "Landlock" {
			k.want = refuseENOSYS
		}
		if got, err := without.Run(data); err != nil || uint32(got) != k.want {
			t.Errorf("without Landlock: %s: %#x, %v; want %#x", k.name, got, err, k.want)
		}
	}
	if b, err := compiled(podmanProfile()); err != nil || len(b) == 0 || len(b)%8 != 0 || len(b) > filterRoom {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
