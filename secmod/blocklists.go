package secmod

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"rocserv/internal/blocklist"
)

const (
	maxBlockFile = 32 << 20 // bytes
	maxBlockSets = 16       // that are remembered
)

// blockLists are the sets of names of resolver-block lines. Files are read again
// when they have changed; users with the same lines have the same set.
type blockLists struct {
	warn func(msg string, args ...any)

	mu   sync.Mutex
	sets map[string]blockSet // by the lines
}

// blockSet is a set and the files it was made of.
type blockSet struct {
	set   blocklist.Set
	files []stamp
}

// set is the names of some domains and files.
func (l *blockLists) set(lines []string) (blocklist.Set, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	var files []stamp
	for _, name := range lines {
		if strings.Contains(name, "/") {
			st, err := os.Stat(name)
			if err != nil {
				return nil, fmt.Errorf("resolver-block: %w", err)
			}
			files = append(files, stampOf(st))
		}
	}
	key := strings.Join(lines, "\n")
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.sets[key]; ok && slices.Equal(known.files, files) {
		return known.set, nil
	}
	set, err := l.read(lines)
	if err != nil {
		return nil, fmt.Errorf("resolver-block: %w", err)
	}
	if l.sets == nil || len(l.sets) >= maxBlockSets {
		l.sets = map[string]blockSet{}
	}
	l.sets[key] = blockSet{set, files}
	return set, nil
}

func (l *blockLists) read(lines []string) (blocklist.Set, error) {
	b := new(blocklist.Builder)
	for _, name := range lines {
		if !strings.Contains(name, "/") {
			b.Add(name) // config has looked
			continue
		}
		text, err := readBounded(name, maxBlockFile)
		if err != nil {
			return nil, err
		}
		b.Bad, b.First = 0, 0
		if err := b.Parse(text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if b.Bad > 0 {
			l.warn("resolver-block: lines are left out that are no names", "file", name, "lines", b.Bad, "first", b.First)
		}
	}
	return b.Set(), nil
}
