package capacity

import (
	"bytes"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What one worker costs, and what the rest of the server needs.
const (
	threadsPerWorker = 7 // idle with DTLS 5.5-6.3, measured
	threadsReserved  = 100
	filesPerWorker   = 3 // in main: channel, log pipe, and the connection on its way
	filesReserved    = 256
	bytesPerWorker   = 3 << 20 // idle with DTLS 2.5 MB in all, measured
	bytesReserved    = 128 << 20
)

// Capacity is what the machine allows, math.MaxUint64 where it says nothing.
type Capacity struct {
	Tasks  uint64 // threads we may still start
	Files  uint64 // descriptors of one process
	Memory uint64 // bytes

	TasksBy, MemoryBy string // which limit it is
}

// Limit is one of the limits, and what it comes to.
type Limit struct {
	Kind    string // threads, files, memory
	Name    string // which it is
	Have    uint64 // math.MaxUint64: no limit
	Workers int
}

// Limits are all limits, each with the number of workers that fit in it.
func (c Capacity) Limits() []Limit {
	var all []Limit
	for _, l := range []struct {
		kind, name           string
		have, reserved, each uint64
	}{
		{"threads", c.TasksBy, c.Tasks, threadsReserved, threadsPerWorker},
		{"files", "hard limit of open files (RLIMIT_NOFILE)", c.Files, filesReserved, filesPerWorker},
		{"memory", c.MemoryBy, c.Memory, bytesReserved, bytesPerWorker},
	} {
		room := uint64(0)
		if l.have > l.reserved {
			room = (l.have - l.reserved) / l.each
		}
		all = append(all, Limit{l.kind, l.name, l.have, int(min(room, math.MaxInt32))})
	}
	return all
}

// Workers is how many workers can run, and which limit says so.
func (c Capacity) Workers() (n int, by string) {
	n, by = math.MaxInt32, "no limit"
	for _, l := range c.Limits() {
		if l.Workers < n {
			n, by = l.Workers, fmt.Sprintf("%s, %d", l.Name, l.Have)
		}
	}
	return max(n, 1), by
}

// Read reads the limits; root is the file system.
func Read(root fs.FS, uid int) Capacity {
	c := Capacity{Tasks: math.MaxUint64, Files: math.MaxUint64, Memory: math.MaxUint64}
	tasks := func(name string, limit, used uint64) {
		if free := limit - min(limit, used); limit != math.MaxUint64 && free < c.Tasks {
			c.Tasks, c.TasksBy = free, name
		}
	}
	memory := func(name string, limit uint64) {
		if limit < c.Memory {
			c.Memory, c.MemoryBy = limit, name
		}
	}
	tasks("kernel.threads-max", number(root, "proc/sys/kernel/threads-max"), 0)
	tasks("kernel.pid_max", number(root, "proc/sys/kernel/pid_max"), 0)
	memory("available memory", memAvailable(root))
	for _, dir := range cgroups(root) {
		tasks("the cgroup's pids.max", number(root, dir+"/pids.max"), orZero(number(root, dir+"/pids.current")))
		memory("the cgroup's memory.max", number(root, dir+"/memory.max"))
		memory("the cgroup's memory.limit_in_bytes", number(root, dir+"/memory.limit_in_bytes"))
	}
	var l unix.Rlimit
	if uid != 0 && unix.Getrlimit(unix.RLIMIT_NPROC, &l) == nil { // root is not counted
		tasks("limit of processes (RLIMIT_NPROC)", l.Cur, 0)
	}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		c.Files = l.Max
	}
	return c
}

// number reads a file with one number; MaxUint64 if it has none ("max", no file).
func number(root fs.FS, name string) uint64 {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return n
}

func orZero(n uint64) uint64 {
	if n == math.MaxUint64 {
		return 0
	}
	return n
}

func memAvailable(root fs.FS) uint64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return math.MaxUint64
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "MemAvailable:" {
			if kb, err := strconv.ParseUint(f[1], 10, 54); err == nil {
				return kb << 10
			}
		}
	}
	return math.MaxUint64
}

// cgroups returns the folders of our control groups and all above them, for
// version 2 and the controllers of version 1 that matter.
func cgroups(root fs.FS) []string {
	b, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(b)) {
		// hierarchy-ID:controller-list:cgroup-path, cgroups(7)
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		top := "sys/fs/cgroup"
		switch f[1] {
		case "":
		case "pids", "memory":
			top += "/" + f[1]
		default:
			continue
		}
		// Clean at the root: a path that begins with /.. (a namespace above ours) stays inside.
		for p := path.Clean("/" + f[2]); ; p = path.Dir(p) {
			dirs = append(dirs, strings.TrimSuffix(top+p, "/"))
			if p == "/" {
				break
			}
		}
	}
	return dirs
}
