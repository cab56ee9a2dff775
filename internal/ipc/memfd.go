package ipc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// MaxSealed is the most that ReadSealed takes: a configuration with tens of
// thousands of routes fits, a mistake does not cost the machine's memory.
const MaxSealed = 16 << 20

const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL

// Seal puts b into a memfd that nobody, its maker included, can change any more.
func Seal(name string, b []byte) (fd int, err error) {
	fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("ipc: memfd: %w", err)
	}
	for off := 0; off < len(b); {
		n, err := unix.Pwrite(fd, b[off:], int64(off))
		if err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("ipc: memfd: %w", err)
		}
		off += n
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("ipc: sealing memfd: %w", err)
	}
	return fd, nil
}

// ReadSealed returns what Seal put in. It refuses, with ErrViolation, anything
// that is no memfd with all seals: its content could change under the reader.
// The descriptor stays open and can be read again.
func ReadSealed(fd int) ([]byte, error) {
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals {
		return nil, violation("descriptor is no sealed memfd")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("ipc: memfd: %w", err)
	}
	if st.Size > MaxSealed {
		return nil, violation("memfd of %d bytes", st.Size)
	}
	b := make([]byte, st.Size)
	for off := 0; off < len(b); {
		n, err := unix.Pread(fd, b[off:], int64(off))
		if err != nil || n == 0 {
			return nil, fmt.Errorf("ipc: reading memfd: %w", err)
		}
		off += n
	}
	return b, nil
}

// SealMessage and ReadSealedMessage are Seal and ReadSealed for a message.
func SealMessage(name string, m Message) (fd int, err error) {
	b := make([]byte, m.SizeVT())
	if _, err := m.MarshalToSizedBufferVT(b); err != nil {
		return -1, fmt.Errorf("ipc: %w", err)
	}
	return Seal(name, b)
}

// ReadSealedMessage fills m from a sealed memfd. Only main and sec-mod make those:
// strings are not checked to be UTF-8.
func ReadSealedMessage(fd int, m Message) error {
	b, err := ReadSealed(fd)
	if err != nil {
		return err
	}
	if err := m.UnmarshalVT(b); err != nil {
		return violation("memfd: %v", err)
	}
	return nil
}
