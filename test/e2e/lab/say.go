package lab

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"time"
)

// sayLimit is for one line and its answer.
const sayLimit = 20 * time.Second

// Lines asks for each line to be sent on a TCP connection of its own, one
// after the other.
type Lines struct {
	To    string // HOST:PORT
	Lines []string
}

// Say returns the answers, a line each; "" where the connection ended without
// one.
func Say(n Netns, q Lines) ([]string, error) {
	return ask[Lines, []string](n, roleSay, q, time.Duration(len(q.Lines)+1)*sayLimit)
}

// say is the role.
func say(q Lines) ([]string, error) {
	answers := make([]string, len(q.Lines))
	for i, line := range q.Lines {
		var err error
		if answers[i], err = sayOne(q.To, line); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func sayOne(to, line string) (string, error) {
	c, err := net.DialTimeout("tcp", to, sayLimit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(sayLimit))
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		return "no end and no answer", nil
	}
	return strings.TrimSpace(answer), nil // an error is the end of the other side
}
