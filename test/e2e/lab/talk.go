package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

const (
	talkVariable = "ROCSERV_LAB_TALK" // with whom
	talkLimit    = 40 * time.Second   // for one word, over whatever happens meanwhile
)

// Talk is a TCP connection and a UDP exchange that last: now and then a word,
// as of somebody with a remote shell.
type Talk struct {
	*Process
	words *os.File
	said  int
}

// StartTalk begins one with the echo service of a host.
func StartTalk(n Netns, host string) (*Talk, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	in, words, err := os.Pipe() // of the kernel: the program's end is seen at once
	if err != nil {
		return nil, err
	}
	p, err := n.Start("talk", in, []string{roleVariable + "=" + roleTalk, talkVariable + "=" + host}, self)
	in.Close()
	if err != nil {
		words.Close()
		return nil, err
	}
	t := &Talk{Process: p, words: words}
	if _, err := p.Expect("^talking$", talkLimit); err != nil {
		t.Close()
		return nil, fmt.Errorf("%w\n%s", err, p.Story())
	}
	return t, nil
}

// Exchange says a word on both and waits until it came back on both.
func (t *Talk) Exchange() error {
	t.said++
	if _, err := fmt.Fprintln(t.words, t.said); err != nil {
		return err
	}
	if _, err := t.Expect(fmt.Sprintf("^both %d$", t.said), 2*talkLimit); err != nil {
		return fmt.Errorf("%w\n%s", err, t.Story())
	}
	return nil
}

// Close ends it.
func (t *Talk) Close() { t.words.Close() }

// talk is the role.
func talk(in io.Reader, out io.Writer) error {
	to := net.JoinHostPort(os.Getenv(talkVariable), strconv.Itoa(PortEcho))
	stream, err := net.DialTimeout("tcp", to, talkLimit)
	if err != nil {
		return err
	}
	datagrams, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "talking")
	answers := bufio.NewReader(stream)
	for words := bufio.NewScanner(in); words.Scan(); {
		word := words.Text() + "\n"
		stream.SetDeadline(time.Now().Add(talkLimit))
		if _, err := io.WriteString(stream, word); err != nil {
			return err
		}
		if got, err := answers.ReadString('\n'); err != nil || got != word {
			return fmt.Errorf("TCP: %q came back as %q: %w", word, got, err)
		}
		if err := talkUDP(datagrams, word); err != nil {
			return err
		}
		fmt.Fprintf(out, "both %s", word)
	}
	return nil
}

// talkUDP repeats what may be lost.
func talkUDP(c net.Conn, word string) error {
	b := make([]byte, 64)
	var err error
	for deadline := time.Now().Add(talkLimit); time.Now().Before(deadline); {
		if _, err = io.WriteString(c, word); err != nil {
			time.Sleep(100 * time.Millisecond) // the device may just be down
			continue
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		for {
			var n int
			if n, err = c.Read(b); err != nil {
				break
			}
			if string(b[:n]) == word {
				return nil
			}
		}
	}
	return fmt.Errorf("UDP: no answer to %q: %w", word, err)
}
