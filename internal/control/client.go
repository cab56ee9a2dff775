package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dialTimeout = 5 * time.Second
	callTimeout = 30 * time.Second
)

// Client is a connection to a server. Its methods may be called by one
// goroutine at a time; Close by any.
type Client struct {
	Name     string        // of the socket
	Patience time.Duration // for an answer

	conn net.Conn
	in   *bufio.Reader
	last uint64
	once sync.Once
}

// DialError is a server that cannot be reached.
type DialError struct {
	Name string // the socket that was tried last, or the one that was wanted
	Err  error
}

func (e *DialError) Error() string {
	return fmt.Sprintf("error connecting to ocserv socket '%s': %v", e.Name, e.Err)
}

func (e *DialError) Unwrap() error { return e.Err }

// Dial connects to the first of the places where a server answers. The error
// is about the first one that is more than missing.
func Dial(places ...string) (*Client, error) {
	var failed *DialError
	for _, name := range places {
		c, err := net.DialTimeout("unix", name, dialTimeout)
		if err == nil {
			return &Client{Name: name, Patience: callTimeout, conn: c, in: bufio.NewReaderSize(c, 64<<10)}, nil
		}
		if failed == nil || errors.Is(failed, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
			failed = &DialError{name, plain(err)}
		}
	}
	if failed == nil {
		return nil, errors.New("control: no socket named")
	}
	return nil, failed
}

// plain is the system's word alone: the name is said already.
func plain(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// Close ends the connection.
func (c *Client) Close() error {
	var err error
	c.once.Do(func() { err = c.conn.Close() })
	return err
}

// Call asks and decodes the answer's result into result, unless that is nil.
// What the server refuses is an *Error.
func (c *Client) Call(cmd string, args, result any) error {
	if err := c.send(cmd, args); err != nil {
		return err
	}
	c.conn.SetReadDeadline(time.Now().Add(c.Patience))
	r, err := c.receive()
	if err != nil {
		return err
	}
	if result == nil || len(r.Result) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("control: answer to %s: %w", cmd, err)
	}
	return nil
}

func (c *Client) send(cmd string, args any) error {
	c.last++
	r := Request{V: Version, ID: c.last, Cmd: cmd}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("control: %w", err)
		}
		r.Args = b
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	c.conn.SetWriteDeadline(time.Now().Add(callTimeout))
	_, err = c.conn.Write(append(b, '\n'))
	// A server that has no place says so before it hears anything.
	if err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("control: could not send message: %w", err)
	}
	return nil
}

// receive reads one reply to the last request. One that says no is an error.
func (c *Client) receive() (Reply, error) {
	line, err := c.in.ReadBytes('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the server has closed the connection")
		}
		return Reply{}, fmt.Errorf("control: %w", err)
	}
	var r Reply
	if err := json.Unmarshal(line, &r); err != nil {
		return Reply{}, fmt.Errorf("control: not a reply: %w", err)
	}
	switch {
	case r.Error != nil:
		return r, r.Error
	case r.V != Version:
		return r, Errorf(BadVersion, "the server speaks version %d of the protocol, this program %d", r.V, Version)
	case !r.OK:
		return r, Errorf(Failed, "the server refused without a reason")
	case r.ID != c.last:
		return r, fmt.Errorf("control: answer to request %d instead of %d", r.ID, c.last)
	}
	return r, nil
}

// Listen asks for events. Next returns them; the connection is good for
// nothing else any more.
func (c *Client) Listen(types ...string) error {
	if err := c.send(eventsCmd, EventsArgs{Types: types}); err != nil {
		return err
	}
	c.conn.SetReadDeadline(time.Now().Add(callTimeout))
	_, err := c.receive()
	c.conn.SetReadDeadline(time.Time{})
	return err
}

// Next waits for an event.
func (c *Client) Next() (Event, error) {
	r, err := c.receive()
	if err != nil {
		return Event{}, err
	}
	if r.Event == nil {
		return Event{}, errors.New("control: no event where one was expected")
	}
	return *r.Event, nil
}
