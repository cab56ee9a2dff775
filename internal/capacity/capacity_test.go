package capacity

import (
	"math"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func TestCapacity(t *testing.T) {
	const none = math.MaxUint64
	tests := []struct {
		name string
		c    Capacity
		want int
		by   string
	}{
		{"nothing known", Capacity{Tasks: none, Files: none, Memory: none}, math.MaxInt32, "no limit"},
		{"podman's default", Capacity{Tasks: 2048, TasksBy: "pids.max", Files: 1 << 20, Memory: none}, (2048 - 100) / 7, "pids.max, 2048"},
		{"few files", Capacity{Tasks: none, Files: 1024, Memory: none}, (1024 - 256) / 3, "RLIMIT_NOFILE"},
		{"little memory", Capacity{Tasks: none, Files: none, Memory: 512 << 20, MemoryBy: "memory.max"}, 128, "memory.max"},
		{"less than the server needs", Capacity{Tasks: 60, TasksBy: "pids.max", Files: none, Memory: none}, 1, "pids.max, 60"},
	}
	for _, tt := range tests {
		if n, by := tt.c.Workers(); n != tt.want || !strings.Contains(by, tt.by) {
			t.Errorf("%s: %d by %q, want %d by %q", tt.name, n, by, tt.want, tt.by)
		}
	}
}

func TestRead(t *testing.T) {
	base := map[string]*fstest.MapFile{
		"proc/sys/kernel/threads-max": file("200000\n"), "proc/sys/kernel/pid_max": file("100000\n"),
		"proc/meminfo": file("MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n"),
	}
	tests := []struct {
		name            string
		files           map[string]string
		tasks           uint64
		tasksBy, memory string
	}{
		{"host", nil, 100000, "pid_max", "available"},
		{"container", map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/pids.max": "2048\n", "sys/fs/cgroup/pids.current": "48\n", "sys/fs/cgroup/memory.max": "max\n",
		}, 2000, "pids.max", "available"},
		{"nested, the outer one is tighter", map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/pids.max": "max", "sys/fs/cgroup/a/pids.max": "500", "sys/fs/cgroup/a/memory.max": "1000000",
		}, 500, "pids.max", "memory.max"},
		{"version 1", map[string]string{
			"proc/self/cgroup": "5:pids:/x\n4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n", "sys/fs/cgroup/pids/x/pids.max": "300", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2000000",
		}, 300, "pids.max", "limit_in_bytes"},
		{"a path above our namespace", map[string]string{
			"proc/self/cgroup": "0::/../../other\n", "sys/fs/cgroup/pids.max": "400",
		}, 400, "pids.max", "available"},
		{"nonsense", map[string]string{
			"proc/self/cgroup": "nonsense\n::\n0:\n", "sys/fs/cgroup/pids.max": "-3",
		}, 100000, "pid_max", "available"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for k, v := range base {
				root[k] = v
			}
			for k, v := range tt.files {
				root[k] = file(v)
			}
			c := Read(root, 0)
			if c.Tasks != tt.tasks || !strings.Contains(c.TasksBy, tt.tasksBy) || !strings.Contains(c.MemoryBy, tt.memory) {
				t.Errorf("%+v", c)
			}
		})
	}
	if c := Read(fstest.MapFS{}, 0); c.Tasks != math.MaxUint64 || c.Memory != math.MaxUint64 {
		t.Errorf("without /proc: %+v", c)
	}
	if n, by := Read(os.DirFS("/"), os.Getuid()).Workers(); n < 1 || by == "" {
		t.Errorf("here: %d by %q", n, by)
	}
}
