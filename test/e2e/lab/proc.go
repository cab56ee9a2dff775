package lab

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// userHz is the unit of times in /proc/PID/stat; Linux shows it as 100
// everywhere.
const userHz = 100

// Proc is what /proc says about a process.
type Proc struct {
	PID, PPID int
	Args      []string
	CPU       time.Duration // user and system time, its reaped children included
}

// Confinement is what a process may do.
type Confinement struct {
	UIDs       [4]int // real, effective, saved, file system
	Caps       uint64 // permitted, effective, inheritable, bounding or ambient
	NoNewPrivs bool
	Seccomp    int // 0 is off, 2 is a filter
}

// Tree returns a process and its descendants, in the order of their pids.
func Tree(root int) ([]Proc, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := map[int][]Proc{}
	var all []Proc
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		p, err := readProc(pid)
		if err != nil {
			continue // gone meanwhile
		}
		if pid == root {
			all = append(all, p)
		}
		children[p.PPID] = append(children[p.PPID], p)
	}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].PID]...)
	}
	slices.SortFunc(all, func(a, b Proc) int { return a.PID - b.PID })
	return all, nil
}

func readProc(pid int) (Proc, error) {
	p := Proc{PID: pid}
	cmdline, err := os.ReadFile(procFile(pid, "cmdline"))
	if err != nil {
		return p, err
	}
	p.Args = strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
	stat, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return p, err
	}
	// The name, in parentheses, may have anything in it.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const state, ppid, utime, cstime = 0, 1, 11, 14
	if len(f) <= cstime {
		return p, fmt.Errorf("/proc/%d/stat: %q", pid, stat)
	}
	if f[state] == "Z" {
		return p, fs.ErrNotExist
	}
	if p.PPID, err = strconv.Atoi(f[ppid]); err != nil {
		return p, err
	}
	for _, t := range f[utime : cstime+1] {
		n, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			return p, err
		}
		p.CPU += time.Duration(n) * time.Second / userHz
	}
	return p, nil
}

// Children counts the children of a process that have this name and are in this
// state ("Z"; "" is any).
func Children(ppid int, name, state string) (int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	n := 0
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
		f := strings.Fields(string(b[end+1:]))
		if string(b[open+1:end]) == name && f[1] == strconv.Itoa(ppid) && (state == "" || f[0] == state) {
			n++
		}
	}
	return n, nil
}

// OwnPID is the number that a process has in its own pid namespace.
func OwnPID(pid int) (int, error) {
	b, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "NSpid:" {
			return strconv.Atoi(f[len(f)-1])
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no NSpid", pid)
}

func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// ReadConfinement reads /proc/PID/status.
func ReadConfinement(pid int) (Confinement, error) {
	var c Confinement
	b, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return c, err
	}
	const expected = 1 + 5 + 1 + 1 // Uid, five sets of capabilities, NoNewPrivs, Seccomp
	seen := 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		switch {
		case name == "Uid" && len(f) == len(c.UIDs):
			for i, s := range f {
				if c.UIDs[i], err = strconv.Atoi(s); err != nil {
					return c, err
				}
			}
			seen++
		case strings.HasPrefix(name, "Cap") && len(f) == 1:
			caps, err := strconv.ParseUint(f[0], 16, 64)
			if err != nil {
				return c, err
			}
			c.Caps |= caps
			seen++
		case name == "NoNewPrivs":
			c.NoNewPrivs = len(f) == 1 && f[0] == "1"
			seen++
		case name == "Seccomp" && len(f) == 1:
			if c.Seccomp, err = strconv.Atoi(f[0]); err != nil {
				return c, err
			}
			seen++
		}
	}
	if seen != expected {
		return c, fmt.Errorf("/proc/%d/status has %d of the expected lines:\n%s", pid, seen, b)
	}
	return c, nil
}

// Private is the memory that only this process has, in bytes.
func Private(pid int) (int64, error) {
	b, err := os.ReadFile(procFile(pid, "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	var kib int64
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], "Private_") {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, err
			}
			kib += n
		}
	}
	return kib << 10, nil
}

// TimerSlack is that of each thread of a process; none has one that has ended.
func TimerSlack(pid int) (all []time.Duration, err error) {
	threads, err := os.ReadDir(procFile(pid, "task"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, t := range threads {
		b, err := os.ReadFile("/proc/" + t.Name() + "/timerslack_ns")
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return nil, err
		}
		d, err := time.ParseDuration(strings.TrimSpace(string(b)) + "ns")
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// WorkerOf finds the process among procs that holds a TCP connection from an
// address.
func WorkerOf(procs []Proc, peer netip.Addr) (Proc, error) {
	for _, p := range procs {
		inodes, err := connections(p.PID, peer)
		if err == nil && holds(p.PID, inodes) {
			return p, nil
		}
	}
	return Proc{}, fmt.Errorf("no process has a connection from %v", peer)
}

// connections returns the inodes of established TCP connections in the
// process's network namespace from peer.
func connections(pid int, peer netip.Addr) (map[string]bool, error) {
	const remote, state, inode, established = 2, 3, 9, "01"
	inodes := map[string]bool{}
	for _, file := range []string{"net/tcp", "net/tcp6"} {
		b, err := os.ReadFile(procFile(pid, file))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) <= inode || f[state] != established {
				continue
			}
			if a, err := parseHexAddr(f[remote]); err == nil && a == peer {
				inodes[f[inode]] = true
			}
		}
	}
	return inodes, nil
}

// parseHexAddr reads the address of ADDRESS:PORT in /proc/net/tcp: words in the
// host's byte order, which is little endian wherever this runs.
func parseHexAddr(s string) (netip.Addr, error) {
	s, _, _ = strings.Cut(s, ":")
	b, err := hex.DecodeString(s)
	if err != nil {
		return netip.Addr{}, err
	}
	for w := range slices.Chunk(b, 4) {
		slices.Reverse(w)
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.Addr{}, errors.New("no address")
	}
	return addr.Unmap(), nil
}

// holds tells whether the process has a descriptor of one of the sockets.
func holds(pid int, inodes map[string]bool) bool {
	fds, err := filepath.Glob(procFile(pid, "fd/*"))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil {
			continue
		}
		if n, ok := strings.CutPrefix(link, "socket:["); ok && inodes[strings.TrimSuffix(n, "]")] {
			return true
		}
	}
	return false
}
