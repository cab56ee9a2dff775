package occtl

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"
)

const promptText = "> "

// interact executes lines until there are no more. The status is the last
// command's.
func (s *session) interact() int {
	in, isTerm := terminal(s.In)
	out, outTerm := terminal(s.Out)
	if !isTerm || !outTerm {
		return s.lines(bufio.NewScanner(s.In))
	}
	fmt.Fprintf(s.Out, "OpenConnect server control (occtl), rocserv %s\n\nFor help type ? or 'help'\n\n", s.Version)
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, promptText)
	t.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		done, options := s.complete(line[:pos])
		if len(options) > 1 {
			fmt.Fprintln(t, strings.Join(options, "  "))
		}
		return done + line[pos:], len(done), true
	}
	return s.converse(in, t)
}

// converse reads lines in raw mode and executes them in the mode it found.
func (s *session) converse(in *os.File, t *term.Terminal) (status int) {
	fd := int(in.Fd())
	// A line is edited here, so Ctrl-C comes as a byte; while a command runs it
	// ends the program as usual.
	for {
		old, err := term.MakeRaw(fd)
		if err != nil {
			return s.fail(err)
		}
		if w, h, err := term.GetSize(fd); err == nil {
			t.SetSize(w, h)
		}
		back := onSignal(func() { term.Restore(fd, old) })
		line, err := t.ReadLine()
		term.Restore(fd, old)
		back()
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(s.Out)
			return status
		}
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			return s.fail(err)
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if leaves(words) {
			return status
		}
		status = s.execute(words)
	}
}

// onSignal has f done before a signal ends the program. The result takes that
// back.
func onSignal(f func()) (cancel func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			f()
			os.Exit(statusFailed)
		case <-done:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// lines executes what comes from a pipe or a file.
func (s *session) lines(in *bufio.Scanner) (status int) {
	for in.Scan() {
		words := strings.Fields(in.Text())
		if len(words) == 0 {
			continue
		}
		if leaves(words) {
			return status
		}
		status = s.execute(words)
	}
	return status
}

func leaves(words []string) bool {
	return len(words) == 1 && (words[0] == "exit" || words[0] == "quit")
}

// complete extends a line as far as it is clear how it goes on, and returns
// what it can become.
func (s *session) complete(line string) (done string, options []string) {
	words := strings.Fields(line)
	begun := "" // the word that is being typed
	if len(words) > 0 && !strings.HasSuffix(line, " ") {
		begun, words = words[len(words)-1], words[:len(words)-1]
	}
	for _, o := range s.next(words) {
		if strings.HasPrefix(o, begun) && !slices.Contains(options, o) {
			options = append(options, o)
		}
	}
	if len(options) == 0 {
		return line, nil
	}
	slices.Sort(options)
	common := options[0]
	for _, o := range options[1:] {
		for !strings.HasPrefix(o, common) {
			common = common[:len(common)-1]
		}
	}
	done = strings.Join(append(slices.Clone(words), common), " ")
	if len(options) == 1 {
		done += " "
	}
	return done, options
}

// next is what may follow these words.
func (s *session) next(words []string) (options []string) {
	for _, c := range table() {
		has := strings.Fields(c.words)
		n := len(words)
		switch {
		case n < len(has) && slices.Equal(has[:n], words):
			options = append(options, has[n])
		case n == len(has) && slices.Equal(has, words) && c.names != nil:
			options = append(options, c.names(s)...)
		}
	}
	return options
}
