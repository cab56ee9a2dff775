package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// statusLines of /proc/PID/status are about confinement.
var statusLines = []string{"Name", "Umask", "Uid", "Gid", "Groups", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters"}

// limitLines of /proc/PID/limits are told where they are 0: then they are
// ours, not the host's.
var limitLines = []string{"Max core file size", "Max locked memory", "Max msgqueue size"}

// Inspect describes from outside what a process is and has, one fact a line,
// without what differs from host to host.
func Inspect(pid int) (string, error) {
	var b strings.Builder
	if err := inspectLines(&b, pid, "status", statusLines, ":"); err != nil {
		return "", err
	}
	if err := inspectLines(&b, pid, limits, limitLines, "  "); err != nil {
		return "", err
	}
	// What is not dumpable belongs to root in /proc: proc_pid(5).
	st, err := os.Stat(procFile(pid, "mem"))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "dumpable: %v\n", !ownedByRoot(st))
	oom, err := os.ReadFile(procFile(pid, "oom_score_adj"))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "oom_score_adj: %s", oom)
	env, err := os.ReadFile(procFile(pid, "environ"))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "environment: %s\n", strings.ReplaceAll(strings.TrimRight(string(env), "\x00"), "\x00", " "))
	kinds, err := descriptors(pid)
	fmt.Fprintf(&b, "descriptors: %s\n", strings.Join(kinds, ", "))
	return b.String(), err
}

const limits = "limits"

func inspectLines(b *strings.Builder, pid int, file string, names []string, sep string) error {
	text, err := os.ReadFile(procFile(pid, file))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, sep)
		value = strings.Join(strings.Fields(value), " ")
		if name == "SigIgn" {
			// Signals from 32 on are the C library's; whoever started the tests may
			// have left one ignored, and it goes through every exec.
			if mask, err := strconv.ParseUint(value, 16, 64); err == nil {
				value = fmt.Sprintf("%016x", mask&(1<<31-1))
			}
		}
		if slices.Contains(names, name) && (file != limits || strings.HasPrefix(value, "0 0 ")) {
			fmt.Fprintf(b, "%s: %s\n", name, value)
		}
	}
	return nil
}

var inode = regexp.MustCompile(`:\[\d+\]$`)

// descriptors lists what kinds a process has, each once. The runtime's own of
// the control group are left out: not every host has a limit there.
func descriptors(pid int) (kinds []string, err error) {
	fds, err := filepath.Glob(procFile(pid, "fd/*"))
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil {
			continue // closed meanwhile
		}
		if strings.HasPrefix(link, "/sys/fs/cgroup/") {
			continue
		}
		link = inode.ReplaceAllString(link, "")
		if !slices.Contains(kinds, link) {
			kinds = append(kinds, link)
		}
	}
	slices.Sort(kinds)
	return kinds, nil
}
