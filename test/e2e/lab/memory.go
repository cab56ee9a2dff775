package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Remembers counts where in a process's own memory each of the words is: what
// it can write, and what of files it has changed. Only root can look.
func Remembers(pid int, words map[string][]byte) (found map[string]int, err error) {
	maps, err := os.ReadFile(procFile(pid, "maps"))
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(procFile(pid, "mem"))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	found = map[string]int{}
	read := 0
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			return nil, fmt.Errorf("%s: %w", procFile(pid, "maps"), err)
		}
		if !strings.HasPrefix(mode, "rw") {
			continue
		}
		b, n := make([]byte, to-from), 0
		for n < len(b) {
			k, err := mem.ReadAt(b[n:min(len(b), n+pageRun)], int64(from)+int64(n))
			if k == 0 || err != nil {
				break
			}
			n += k
		}
		read += n
		for name, word := range words {
			found[name] += bytes.Count(b[:n], word)
		}
	}
	if read == 0 {
		return nil, errors.New("no memory could be read")
	}
	return found, nil
}

// pageRun is how much of a process's memory is read at once.
const pageRun = 1 << 20
