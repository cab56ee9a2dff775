package lab

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	echoTries = 3
	echoWait  = 3 * time.Second
)

// Echoes asks for datagrams to be sent to tgt's echo service and back, one
// after the other.
type Echoes struct {
	Host  string
	Sizes []int // of the payloads
}

// Echo says for each size whether the same payload came back: "" or what is
// wrong.
func Echo(n Netns, q Echoes) ([]string, error) {
	limit := time.Duration(len(q.Sizes)+1) * (echoTries + 1) * echoWait
	return ask[Echoes, []string](n, roleEcho, q, limit)
}

// echo is the role.
func echo(q Echoes) ([]string, error) {
	c, err := net.Dial("udp", net.JoinHostPort(q.Host, fmt.Sprint(PortEcho)))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	results := make([]string, len(q.Sizes))
	for i, size := range q.Sizes {
		for range echoTries { // UDP may lose one
			if err = echoOne(c, size); err == nil {
				break
			}
		}
		if err != nil {
			results[i] = err.Error()
		}
	}
	return results, nil
}

func echoOne(c net.Conn, size int) error {
	sent := make([]byte, size)
	if _, err := io.ReadFull(rand.Reader, sent); err != nil {
		return err
	}
	if _, err := c.Write(sent); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(echoWait))
	got, other := make([]byte, 1<<16), 0
	for {
		n, err := c.Read(got)
		if err != nil {
			return fmt.Errorf("%d bytes sent, %d other datagrams back: %w", size, other, err)
		}
		if bytes.Equal(got[:n], sent) {
			return nil
		}
		other++ // the answer to an earlier try, perhaps
	}
}
