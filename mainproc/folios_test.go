package mainproc

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const somePages = 5 << 20 / 4096 // two large folios where they are of 2 MB, and something

// smallFolios writes a file page by page, so that no large folio is made of that.
func smallFolios(t *testing.T) (f *os.File, content []byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "program"))
	must(err)
	t.Cleanup(func() { f.Close() })
	random := rand.NewChaCha8([32]byte{1})
	page := make([]byte, 4096)
	for range somePages {
		random.Read(page)
		content = append(content, page...)
		_, err := f.Write(page)
		must(err)
	}
	return f, content
}

// largeFolios says whether a file that nobody has read is surely kept in large folios
// here, if it is read for a mapping that asks for them.
func largeFolios(t *testing.T) bool {
	t.Helper()
	f, _ := smallFolios(t)
	must(f.Sync())
	must(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	b, err := unix.Mmap(int(f.Fd()), 0, somePages*4096, unix.PROT_READ, unix.MAP_PRIVATE)
	must(err)
	defer unix.Munmap(b)
	if unix.Madvise(b, unix.MADV_HUGEPAGE) != nil || unix.Madvise(b, unix.MADV_POPULATE_READ) != nil {
		return false
	}
	return byLargeFolios(os.Getpid(), f.Name()) > 0
}

// byLargeFolios is how much of that file's pages large folios map in a process.
func byLargeFolios(pid int, file string) (kB int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid)) // it may have ended
	for _, m := range regexp.MustCompile(` `+regexp.QuoteMeta(file)+`\n(?:[A-Z].*\n)*?FilePmdMapped: +(\d+) kB`).FindAllSubmatch(b, -1) {
		n, err := strconv.Atoi(string(m[1]))
		must(err)
		kB += n
	}
	return kB
}

// TestEnlarge: where the kernel has large folios for such a file, all that is whole of
// it is in them, although it was written in small ones; elsewhere that is said. Of the
// file nothing has changed, and of the mappings nothing is left.
func TestEnlarge(t *testing.T) {
	f, content := smallFolios(t)
	size, _ := hugeSize()
	n, err := enlarge(f)
	t.Logf("%d folios of %d bytes, %v", n, size, err)
	if want := somePages * 4096 / max(size, 4096); err == nil && n != want || err != nil && (n >= want || largeFolios(t)) {
		t.Errorf("%d folios of %d: %v", n, want, err)
	}
	if again, _ := enlarge(f); again < n {
		t.Errorf("once more: %d folios instead of %d", again, n)
	}
	if b, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(b, content) {
		t.Errorf("the file has changed: %v", err)
	}
	if maps, err := os.ReadFile("/proc/self/maps"); err != nil || strings.Contains(string(maps), f.Name()) {
		t.Errorf("the file is still mapped: %v", err)
	}
}

// TestNotEnlarged: what cannot be mapped, becomes shorter meanwhile, or is kept in other
// folios, as what is no file of a disk is here, is an error.
func TestNotEnlarged(t *testing.T) {
	size, err := hugeSize()
	if err != nil {
		size = 2 << 20
	}
	f, _ := smallFolios(t)
	w, err := newWindow(size)
	must(err)
	if err := w.enlarge(int(f.Fd()), int64(size)*somePages); err == nil {
		t.Error("behind the end of a file something was read")
	}
	if err := w.enlarge(-1, 0); err == nil {
		t.Error("what is no file was read")
	}
	reserved := w.reserved
	w.close()
	if err := unix.Msync(reserved, unix.MS_ASYNC); err == nil {
		t.Error("a window is still there")
	}
	writeOnly, err := os.OpenFile(f.Name(), os.O_WRONLY, 0)
	must(err)
	defer writeOnly.Close()
	if n, err := enlarge(writeOnly); n != 0 || err == nil && size <= somePages*4096 {
		t.Errorf("of a file that cannot be read: %d folios, %v", n, err)
	}
	fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC)
	must(err)
	memory := os.NewFile(uintptr(fd), "program")
	defer memory.Close()
	must(memory.Truncate(int64(size)))
	if n, err := enlarge(memory); n != 0 || !errors.Is(err, errSmallFolios) && !errors.Is(err, errNoHugePages) {
		t.Errorf("of memory: %d folios, %v", n, err)
	}
	empty, err := os.Create(filepath.Join(t.TempDir(), "empty"))
	must(err)
	defer empty.Close()
	if n, _ := enlarge(empty); n != 0 {
		t.Errorf("of an empty file: %d folios", n)
	}
}

// TestEnlargeWorkers: main looks at the program of its workers before the first one
// starts, whatever comes of it, and has nothing of it open or mapped when it serves.
// Where it is in large folios then, workers are mapped by them.
func TestEnlargeWorkers(t *testing.T) {
	c := defaults()
	r, worker := withPrograms(t, c)
	putProgram(worker, "")
	r.begin(c)
	took, err := time.ParseDuration(r.logged(`the workers' program is .*in large folios .*took=(\S+)`))
	must(err)
	if log := r.log.String(); took < enlargeTime/2 {
		if strings.Index(log, "in large folios") > strings.Index(log, "initialized") {
			t.Error("clients were let in before")
		}
		r.served()
		kB := 0
		for _, pid := range r.children(roleWorker.arg) {
			kB += byLargeFolios(pid, worker)
		}
		if strings.Contains(log, msgLargeFolios) != (kB > 0) {
			t.Errorf("%d kB of workers are mapped by large folios", kB)
		}
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", r.cmd.Process.Pid))
	if err != nil || strings.Contains(string(maps), worker) {
		t.Errorf("main has it mapped: %v", err)
	}
	eventually(t, "one descriptor of it in main, the one that it executes", func() bool { return r.opened(worker) == 1 })
	r.stop()
}

// opened is how many descriptors of a file main has.
func (r *running) opened(file string) (n int) {
	r.t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.cmd.Process.Pid))
	must(err)
	for _, l := range links {
		if to, _ := os.Readlink(l); to == file {
			n++
		}
	}
	return n
}

func TestWithin(t *testing.T) {
	began := time.Now()
	within(10*time.Millisecond, make(chan struct{}))
	if took := time.Since(began); took < 10*time.Millisecond || took > 5*time.Second {
		t.Errorf("what is never done took %v", took)
	}
	done := make(chan struct{})
	close(done)
	within(time.Hour, done)
}
