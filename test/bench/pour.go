package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pouring is the question of a role that sends UDP datagrams of the tunnel's
// full size, as fast as the client takes them from its device.
type pouring struct {
	To      string
	Device  string // the tunnel's
	Seconds int
}

// poured is its answer.
type poured struct {
	Bytes   int // of payload that the client took
	Seconds float64
}

const (
	headers4 = 20 + 8 // IPv4 and UDP
	burst    = 40     // packets that the kernel cuts one write into: with a header less than 64 KB
	// queued is how many packets are in the device when no more are sent: with a
	// burst more its queue, which holds 500, has room. So the client always finds
	// one, and no processor is used for what would be dropped.
	queued = 400
)

// pour is the role.
func pour(q pouring) (poured, error) {
	device, err := net.InterfaceByName(q.Device)
	if err != nil {
		return poured{}, err
	}
	conn, err := net.Dial("udp4", q.To)
	if err != nil {
		return poured{}, err
	}
	defer conn.Close()
	size := device.MTU - headers4
	if err := segment(conn.(*net.UDPConn), size); err != nil {
		return poured{}, err
	}
	payload := make([]byte, burst*size)
	before, err := taken(content(deviceCounts), q.Device)
	if err != nil {
		return poured{}, err
	}
	began, now := time.Now(), before
	for sent := 0; time.Since(began) < time.Duration(q.Seconds)*time.Second; {
		if now, err = taken(content(deviceCounts), q.Device); err != nil {
			return poured{}, err
		}
		if sent-(now.packets+now.dropped-before.packets-before.dropped) > queued {
			time.Sleep(time.Millisecond)
			continue
		}
		if _, err := conn.Write(payload); err != nil {
			return poured{}, err
		}
		sent += burst
	}
	return poured{Bytes: (now.packets - before.packets) * size, Seconds: time.Since(began).Seconds()}, nil
}

// deviceCounts is of the namespace that reads it (proc_pid_net(5)).
const deviceCounts = "/proc/self/net/dev"

// counts are of what went into a tun device: read by who has opened it, or not.
type counts struct{ packets, dropped int }

// taken finds the counts of a device in deviceCounts.
func taken(text, device string) (c counts, err error) {
	for line := range strings.Lines(text) {
		name, numbers, _ := strings.Cut(line, ":")
		f := strings.Fields(numbers)
		if strings.TrimSpace(name) != device || len(f) < 12 {
			continue
		}
		var err2 error
		c.packets, err = strconv.Atoi(f[9])
		c.dropped, err2 = strconv.Atoi(f[11])
		return c, errors.Join(err, err2)
	}
	return c, fmt.Errorf("no counts of %s in %q", device, text)
}

// segment makes the kernel cut what is written into datagrams (udp(7), UDP_SEGMENT).
func segment(c *net.UDPConn, size int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size)
	})
	return errors.Join(err, failed)
}

// floorUpload measures what a client uploads to the floor: packets of UDP, whose
// payload it can carry on without a stack of TCP. Counted is what the client
// sends: with DTLS some of it may be lost, and no server gets more.
func (c *contender) floorUpload(via int, p plan) (sample, error) {
	o, err := c.client(via)
	if err != nil {
		return nil, err
	}
	cli, err := c.processCPU(o.PID())
	if err != nil {
		return nil, err
	}
	var r poured
	used, err := c.cpu(func() (err error) {
		q := pouring{To: tgtAt(portSink), Device: o.Device, Seconds: p.seconds}
		r, err = ask[poured](o.From, "__pour", q, time.Duration(q.Seconds)*time.Second+answerLimit)
		return err
	})
	if err == nil && r.Bytes == 0 {
		err = errors.New("the client took nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s\n%s", err, o.Story(), c.srv.Story())
	}
	cliAfter, err := c.processCPU(o.PID())
	if err != nil {
		return nil, err
	}
	return moved(float64(r.Bytes), float64(r.Bytes)*8/r.Seconds, used, cliAfter-cli), nil
}
