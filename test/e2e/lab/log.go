package lab

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// maxLines bounds what a Log keeps. A program that says more loses its oldest
// lines, which Expect then no longer finds.
const maxLines = 50000

// Log is what a program prints, line by line. Lines can be waited for.
type Log struct {
	began time.Time

	mu      sync.Mutex
	partial []byte
	lines   []logLine
	dropped int           // lines before lines[0]
	more    chan struct{} // closed when something is new
	closed  bool
}

type logLine struct {
	at   time.Duration
	text string
}

func newLog() *Log { return &Log{began: time.Now(), more: make(chan struct{})} }

// Write takes part of what the program prints.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, b...)
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			break
		}
		l.add(string(bytes.TrimSuffix(line, []byte("\r"))))
		l.partial = rest
	}
	l.wake()
	return len(b), nil
}

func (l *Log) add(text string) {
	if len(l.lines) == maxLines {
		l.lines = append(l.lines[:0], l.lines[maxLines/2:]...)
		l.dropped += maxLines / 2
	}
	l.lines = append(l.lines, logLine{time.Since(l.began), text})
}

// wake is called with mu held.
func (l *Log) wake() {
	close(l.more)
	l.more = make(chan struct{})
}

// end is called when nothing more will come.
func (l *Log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		l.add(string(l.partial))
		l.partial = nil
	}
	l.closed = true
	l.wake()
}

// Mark is a place in the log: its end, for ExpectAfter.
func (l *Log) Mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped + len(l.lines)
}

// Expect waits for a line that matches and returns the match and its groups.
func (l *Log) Expect(expr string, limit time.Duration) ([]string, error) {
	return l.ExpectAfter(0, expr, limit)
}

// ExpectAfter is Expect for lines after a mark.
func (l *Log) ExpectAfter(mark int, expr string, limit time.Duration) ([]string, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		match, next, more, closed := l.find(re, mark)
		if match != nil {
			return match, nil
		}
		if closed {
			return nil, fmt.Errorf("the program ended without a line like %q", expr)
		}
		mark = next
		select {
		case <-more:
		case <-late.C:
			return nil, fmt.Errorf("no line like %q within %v", expr, limit)
		}
	}
}

// find looks for re from mark on, and says where to look next.
func (l *Log) find(re *regexp.Regexp, mark int) (match []string, next int, more chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := max(mark-l.dropped, 0); i < len(l.lines); i++ {
		if m := re.FindStringSubmatch(l.lines[i].text); m != nil {
			return m, 0, nil, false
		}
	}
	return nil, l.dropped + len(l.lines), l.more, l.closed
}

// Has tells whether a line matches now.
func (l *Log) Has(expr string) bool { return l.Count(expr) > 0 }

// Count is the number of lines that match now.
func (l *Log) Count(expr string) int {
	re := regexp.MustCompile(expr)
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if re.MatchString(line.text) {
			n++
		}
	}
	return n
}

// String is the whole log, each line with the time since the program's start.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	if l.dropped > 0 {
		fmt.Fprintf(&b, "(%d lines dropped)\n", l.dropped)
	}
	for _, line := range l.lines {
		fmt.Fprintf(&b, "%8.3f %s\n", line.at.Seconds(), line.text)
	}
	if len(l.partial) > 0 {
		fmt.Fprintf(&b, "         %s\n", l.partial)
	}
	return b.String()
}
