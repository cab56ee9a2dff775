package lab

import (
	"fmt"
	"testing"
	"time"
)

func TestLogExpect(t *testing.T) {
	l := newLog()
	fmt.Fprint(l, "one\r\ntw")
	if m, err := l.Expect(`^o(n)e$`, 0); err != nil || m[1] != "n" {
		t.Errorf("whole line: %q, %v", m, err)
	}
	if _, err := l.Expect("^tw", 0); err == nil {
		t.Error("half a line matches")
	}
	mark := l.Mark()
	waited := make(chan error, 1)
	go func() {
		_, err := l.ExpectAfter(mark, "^two$", time.Minute)
		waited <- err
	}()
	fmt.Fprint(l, "o\none\n")
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if _, err := l.ExpectAfter(l.Mark(), "one", 0); err == nil {
		t.Error("a line before the mark matches")
	}
	fmt.Fprint(l, "last")
	go func() {
		_, err := l.Expect("never", time.Minute)
		waited <- err
	}()
	l.end()
	if err := <-waited; err == nil {
		t.Error("a line that never came matches")
	}
	if l.Count("^(last|one)$") != 3 || !l.Has("^last$") {
		t.Errorf("log is\n%s", l)
	}
	if _, err := l.Expect("(", 0); err == nil {
		t.Error("a broken expression is taken")
	}
}

func TestLogIsBounded(t *testing.T) {
	l := newLog()
	for i := range maxLines + 10 {
		fmt.Fprintln(l, i)
	}
	if l.Has("^0$") || !l.Has(fmt.Sprintf("^%d$", maxLines)) {
		t.Error("the oldest lines are not the ones that went")
	}
	if got, want := l.Mark(), maxLines+10; got != want {
		t.Errorf("mark is %d, not %d", got, want)
	}
	if _, err := l.ExpectAfter(maxLines+9, fmt.Sprintf("^%d$", maxLines+9), 0); err != nil {
		t.Error(err)
	}
}
