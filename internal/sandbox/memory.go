package sandbox

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What a worker may have of memory with limit-worker-memory, beyond what it
// begins with. The buffers of its client's flows are bounded far below that by
// the netstack (ipc.Limits.BufferBytes, 64 MiB): the limit is for what nobody
// thought of. The collector works harder before the kernel says no, for a Go
// process that gets no memory dies.
const (
	workerData    = 256 << 20
	workerHeap    = workerData / 4 * 3
	unknownBefore = 192 << 20 // where /proc cannot be read
)

// HeapLimit is what the collector is to keep the heap below, in bytes.
func (o Options) HeapLimit() int64 {
	if o.LimitMemory {
		return workerHeap
	}
	return math.MaxInt64
}

// limitData bounds what the process can allocate. The runtime's own tables
// count too, so what is there already is the basis.
func limitData() error {
	before, err := dataSize()
	if err != nil {
		before = unknownBefore
	}
	return lower(unix.RLIMIT_DATA, before+workerData)
}

// dataSize is the process's private writable memory, in bytes: what RLIMIT_DATA counts.
func dataSize() (uint64, error) {
	b, err := readProc("status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmData:"); ok {
			kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 54)
			if err != nil {
				return 0, fmt.Errorf("sandbox: VmData: %w", err)
			}
			return kb << 10, nil
		}
	}
	return 0, errors.New("sandbox: /proc/self/status has no VmData")
}
