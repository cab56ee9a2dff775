package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
	"rocserv/worker"
)

// The test's binary is the test, and all processes of the server under test.
// Those that main starts have a tap in each of their channels: a second pair of
// sockets, and two goroutines that carry records across and note them.

const serverArg = "__server" // the server's command line follows

func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case roleWorker:
		out := openTap()
		drains := []func(){tap(out, 3, "main", "worker"), tap(out, 4, "sec-mod", "worker")}
		status := worker.Main(os.Args[2:])
		for _, drain := range drains {
			drain()
		}
		os.Exit(status)
	case roleSecMod:
		tap(openTap(), 3, "main", "sec-mod")
	case serverArg:
		os.Args = append(os.Args[:1], os.Args[2:]...)
	case roleQuickstart, roleTrial:
	default:
		os.Exit(m.Run())
	}
	main()
	os.Exit(0)
}

// pid is asked for before the process is confined.
var pid = os.Getpid()

// message is a record that was carried across.
type message struct {
	At       int64 // ns, the same clock in all processes
	PID      int
	From, To string
	Type     string
	Up, Down uint64
	Reason   ipc.Reason
}

// openTap opens the file of all taps, beside the program.
func openTap() *os.File {
	exe, err := os.Executable()
	check(err)
	f, err := os.OpenFile(filepath.Join(filepath.Dir(exe), "tap"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	check(err)
	return f
}

// tap puts itself between this process, near, and the channel to far at fd. drain
// waits until all that near has said is on its way.
func tap(out *os.File, fd int, far, near string) (drain func()) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	check(err)
	outer, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
	check(err)
	check(unix.SetNonblock(outer, false))
	check(unix.Dup3(pair[1], fd, 0))
	check(unix.Close(pair[1]))
	down, up := &carrier{out: out, src: outer, dst: pair[0], from: far, to: near}, &carrier{out: out, src: pair[0], dst: outer, from: near, to: far}
	go down.run()
	go up.run()
	return up.drain
}

// carrier carries the records of one direction.
type carrier struct {
	out      *os.File
	src, dst int
	from, to string
	mu       sync.Mutex // held while a record is neither in src nor in dst
}

func (c *carrier) run() {
	rec, oob := make([]byte, ipc.MaxRecord+1), make([]byte, 128)
	for {
		n, _, err := unix.Recvfrom(c.src, rec[:1], unix.MSG_PEEK) // wait
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			unix.Shutdown(c.dst, unix.SHUT_WR)
			return
		}
		c.mu.Lock()
		n, oobn, _, _, err := unix.Recvmsg(c.src, rec, oob, unix.MSG_CMSG_CLOEXEC)
		check(err)
		note(c.out, rec[:n], c.from, c.to)
		unix.SendmsgN(c.dst, rec[:n], oob[:oobn], nil, unix.MSG_NOSIGNAL)
		closeRights(oob[:oobn])
		c.mu.Unlock()
	}
}

func (c *carrier) drain() {
	for left := true; left; runtime.Gosched() {
		c.mu.Lock()
		n, _, err := unix.Recvfrom(c.src, make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		left = err == nil && n > 0
		c.mu.Unlock()
	}
}

func closeRights(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	check(err)
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		check(err)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// note writes what there is to compare of a record: no secret is among it.
func note(out *os.File, rec []byte, from, to string) {
	m := message{At: monotonic(), PID: pid, From: from, To: to, Type: ipc.Type(rec[0]).String()}
	body := rec[5:]
	switch ipc.Type(rec[0]) {
	case ipc.CliStatsT:
		s := new(ipc.CliStats)
		check(proto.Unmarshal(body, s))
		m.Up, m.Down, m.Reason = s.BytesUp, s.BytesDown, s.Reason
	case ipc.SessionStatsT:
		s := new(ipc.SessionStats)
		check(proto.Unmarshal(body, s))
		m.Up, m.Down, m.Reason = s.BytesUp, s.BytesDown, s.Reason
	case ipc.SecmCliStatsT:
		s := new(ipc.SecmCliStats)
		check(proto.Unmarshal(body, s))
		m.Up, m.Down = s.BytesUp, s.BytesDown
	case ipc.SecmSessionCloseT:
		s := new(ipc.SecmSessionClose)
		check(proto.Unmarshal(body, s))
		m.Reason = s.Reason
	}
	line, err := json.Marshal(m)
	check(err)
	_, err = out.Write(append(line, '\n'))
	check(err)
}

func monotonic() int64 {
	var ts unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
