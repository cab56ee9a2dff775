package mainproc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Folios are what the kernel keeps a file's pages in. Where one is as large as what a
// single entry of the page middle directory maps, 2 MB mostly, a process that executes
// the file gets all of it by one page fault instead of one for each 64 KB: a worker's
// start has a quarter less of them. The kernel makes such folios (ext4 since 6.16,
// other file systems before) where it reads a file for a mapping with
// MADV_HUGEPAGE, but keeps what it has read before as it is, until nobody maps it and
// it is dropped. So main has the program of its workers read that way before the first
// of them starts. The file is the installed one, and nothing is written.

const (
	hugeSizeFile = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
	hugeUseFile  = "/sys/kernel/mm/transparent_hugepage/enabled"
	// enlargeTime is how long the first worker waits for it: the file may have to be
	// read from a slow disk.
	enlargeTime = 300 * time.Millisecond

	msgLargeFolios = "the workers' program is in large folios"
	msgSmallFolios = "the workers' program is not in large folios"
)

var (
	errNoHugePages = errors.New("mainproc: the kernel has no huge pages, or is not to use them")
	errSmallFolios = errors.New("mainproc: the kernel keeps the file in small folios")
)

// hugeSize is how much an entry of the page middle directory maps.
func hugeSize() (int, error) {
	use, err := os.ReadFile(hugeUseFile)
	if err != nil || bytes.Contains(use, []byte("[never]")) {
		return 0, errNoHugePages
	}
	b, err := os.ReadFile(hugeSizeFile)
	if err != nil {
		return 0, errNoHugePages
	}
	size, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil || size <= 0 || size&(size-1) != 0 {
		return 0, errNoHugePages
	}
	return size, nil
}

// enlargeWorkers has the workers' program kept in large folios before the first of them
// starts, if they have one: what main executes itself stays as it is. Where it cannot be
// had, workers start as they did.
func (s *server) enlargeWorkers() {
	if s.workerRole.exe == "" {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		began := time.Now()
		n, err := enlargeFile(s.workerRole.exe)
		if err != nil {
			s.log.Debug(msgSmallFolios, "err", err, "folios", n, "took", time.Since(began))
			return
		}
		s.log.Debug(msgLargeFolios, "folios", n, "took", time.Since(began))
	}()
	within(enlargeTime, done)
}

// within waits until something is done, but not longer than that.
func within(limit time.Duration, done <-chan struct{}) {
	select {
	case <-done:
	case <-time.After(limit):
	}
}

func enlargeFile(name string) (int, error) {
	f, err := os.Open(name) // it may be executable and not readable
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return enlarge(f)
}

// enlarge has the kernel keep a file in large folios, as many as it has whole ones. It
// ends at the first that it does not get, so that where the kernel or the file system
// has none, or memory is short, no more than that is read again.
func enlarge(f *os.File) (n int, err error) {
	size, err := hugeSize()
	if err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	w, err := newWindow(size)
	if err != nil {
		return 0, err
	}
	defer w.close()
	for off := int64(0); off+int64(size) <= st.Size(); off += int64(size) {
		if err := w.enlarge(int(f.Fd()), off); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// window is where a large folio of a file can be mapped, which has to be at a multiple
// of its size.
type window struct {
	reserved []byte
	pages    []byte // of them
}

func newWindow(size int) (*window, error) {
	b, err := unix.Mmap(-1, 0, 2*size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	begin := int(-uintptr(unsafe.Pointer(&b[0])) & uintptr(size-1))
	return &window{b, b[begin : begin+size]}, nil
}

func (w *window) close() { unix.Munmap(w.reserved) }

// mapFile maps what is at that place of a file, to be read into a large folio.
func (w *window) mapFile(fd int, off int64) error {
	_, err := unix.MmapPtr(fd, off, unsafe.Pointer(&w.pages[0]), uintptr(len(w.pages)), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_FIXED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	return os.NewSyscallError("madvise", unix.Madvise(w.pages, unix.MADV_HUGEPAGE))
}

// enlarge has one large folio made of what is at that place of a file.
func (w *window) enlarge(fd int, off int64) error {
	if err := w.mapFile(fd, off); err != nil {
		return err
	}
	if whole, err := w.read(); whole || err != nil {
		return err
	}
	if err := w.drop(fd, off); err != nil {
		return err
	}
	whole, err := w.read()
	if err == nil && !whole {
		err = errSmallFolios
	}
	return err
}

// read has the kernel read and map all of it, and says whether one entry maps it.
// Unlike a look at the bytes it fails if the file has become shorter.
func (w *window) read() (whole bool, err error) {
	if err := unix.Madvise(w.pages, unix.MADV_POPULATE_READ); err != nil {
		return false, os.NewSyscallError("madvise", err)
	}
	return w.whole()
}

// drop has the kernel forget what it has read of it, unless somebody else maps that.
// Of a file that has just been installed it is on the disk first.
func (w *window) drop(fd int, off int64) error {
	size := int64(len(w.pages))
	if err := unix.Madvise(w.pages, unix.MADV_DONTNEED); err != nil {
		return os.NewSyscallError("madvise", err)
	}
	if err := unix.SyncFileRange(fd, off, size, unix.SYNC_FILE_RANGE_WRITE_AND_WAIT); err != nil {
		return os.NewSyscallError("sync_file_range", err)
	}
	return os.NewSyscallError("fadvise64", unix.Fadvise(fd, off, size, unix.FADV_DONTNEED))
}

// whole says whether the kernel maps all of it by one entry, proc_pid_smaps(5).
func (w *window) whole() (bool, error) {
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return false, err
	}
	begin := uintptr(unsafe.Pointer(&w.pages[0]))
	_, b, _ = bytes.Cut(b, fmt.Appendf(nil, "\n%x-%x ", begin, begin+uintptr(len(w.pages))))
	_, b, _ = bytes.Cut(b, []byte("\nFilePmdMapped:"))
	b, _, _ = bytes.Cut(b, []byte(" kB\n"))
	kB, _ := strconv.Atoi(string(bytes.TrimSpace(b)))
	return kB<<10 == len(w.pages), nil
}
