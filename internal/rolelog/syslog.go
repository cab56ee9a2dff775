package rolelog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Facilities are the names of syslog's facilities that ocserv knows, with their
// numbers (RFC 3164 section 4.1.1).
var Facilities = map[string]int{
	"user": 1, "daemon": 3, "auth": 4, "authpriv": 10,
	"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}

const (
	syslogQueue    = 1024              // lines that wait
	syslogPatience = 2 * time.Second   // for the syslog to take one
	syslogPause    = time.Second       // between two attempts to reach it
	maxSyslogLine  = 2048              // bytes; what is longer is cut, daemons differ in what they take
	syslogTime     = "Jan _2 15:04:05" // RFC 3164 section 4.1.2
)

// Syslog is the host's syslog, by datagrams to its socket, in the form of syslog(3).
// Nobody waits for it: lines go through a queue, and what does not fit is counted
// and told when there is room again.
type Syslog struct {
	path, tag string
	facility  atomic.Int32
	lines     chan string
	dropped   atomic.Uint64
	now       func() time.Time
	closing   sync.Once
	quit      chan struct{}
	done      chan struct{}
}

// OpenSyslog connects to the syslog whose socket is at path. An error is that
// nobody is there.
func OpenSyslog(path, tag string) (*Syslog, error) {
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return nil, fmt.Errorf("syslog: %w", err)
	}
	s := &Syslog{path: path, tag: tag, lines: make(chan string, syslogQueue), now: time.Now, quit: make(chan struct{}), done: make(chan struct{})}
	s.facility.Store(int32(Facilities["daemon"]))
	go s.run(conn)
	return s, nil
}

// SetFacility takes one of Facilities.
func (s *Syslog) SetFacility(name string) {
	if n, ok := Facilities[strings.ToLower(name)]; ok {
		s.facility.Store(int32(n))
	}
}

// Write takes one line with its priority in front.
func (s *Syslog) Write(b []byte) (int, error) {
	if len(b) < 3 {
		return len(b), nil
	}
	select {
	case s.lines <- s.line(b[1]-'0', strings.TrimSuffix(string(b[3:]), "\n")):
	default:
		s.dropped.Add(1)
	}
	return len(b), nil
}

// line is what goes to the socket (RFC 3164 section 4.1, without a host).
func (s *Syslog) line(severity byte, text string) string {
	pri := s.facility.Load()*8 + int32(severity)
	line := fmt.Sprintf("<%d>%s %s[%d]: %s", pri, s.now().Format(syslogTime), s.tag, os.Getpid(), text)
	return string(cut([]byte(line), maxSyslogLine))
}

// Close sends what waits, within bounds.
func (s *Syslog) Close() {
	s.closing.Do(func() { close(s.quit) })
	select {
	case <-s.done:
	case <-time.After(syslogPatience):
	}
}

func (s *Syslog) run(conn net.Conn) {
	defer close(s.done)
	for {
		select {
		case line := <-s.lines:
			if conn = s.send(conn, line, 1); conn != nil {
				if n := s.dropped.Swap(0); n > 0 {
					conn = s.send(conn, s.line(4, strconv.FormatUint(n, 10)+" lines were dropped"), n)
				}
			}
		case <-s.quit:
			for len(s.lines) > 0 && conn != nil {
				conn = s.send(conn, <-s.lines, 1)
			}
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

// send sends a line, by a new connection where the old one has ended: a syslog
// that was started again has another socket at the same place. It returns the
// connection to go on with, nil if there is none. n is how many lines are lost
// if it cannot be sent.
func (s *Syslog) send(conn net.Conn, line string, n uint64) net.Conn {
	for try := range 2 {
		if conn == nil {
			if try > 0 {
				select {
				case <-time.After(syslogPause):
				case <-s.quit:
				}
			}
			var err error
			if conn, err = net.Dial("unixgram", s.path); err != nil {
				conn = nil
				continue
			}
		}
		conn.SetWriteDeadline(time.Now().Add(syslogPatience))
		_, err := conn.Write([]byte(line))
		if err == nil {
			return conn
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break // it is there, and too slow
		}
		conn.Close()
		conn = nil
	}
	s.dropped.Add(n)
	return conn
}
