//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// What of the server's own bounds shows from outside (mainproc/door.go): 64
// workers before login for one prefix, those that were put out and have two
// seconds to go, the pool.
const (
	floodWorkers = 64 + 64 + 10
	floodFiles   = 600 // of main: 256 connections that wait, three for each worker
	floodMemory  = 64 * megabyte
	floodConnect = 10 * time.Second
)

// crowdPrefix is where the crowd is from: another /24 than the lab's clients,
// and not local to the server.
const crowdPrefix = "10.88.0."

// Thousands of connections from one network that never log in: half-open ones,
// silent ones, such as send a byte, such as send a byte a second. Bans are off:
// it is the shares that have to hold.
func TestSlowConnections(t *testing.T) {
	rocservOnly(t, "it has no shares")
	r := newRig(t, 2)
	var from []string
	route := []string{}
	for i := range 20 {
		from = append(from, fmt.Sprintf("%s%d", crowdPrefix, i+1))
		route = append(route, "addr add "+from[i]+"/32 dev eth0")
	}
	r.must(r.Cli[0].IP(route...))
	r.must(r.Srv.IP("route add " + crowdPrefix + "0/24 via " + lab.ClientAddr4(0)))
	// The last address never completes a handshake of TCP.
	r.must(r.Cli[0].Nft("halfopen", "input ip daddr "+from[19]+" drop"))
	to := lab.ServerAt(lab.Srv4)
	for _, c := range []lab.Crowd{
		{To: to, From: from[19:], Silent: 1000},
		{To: to, From: from[:19], Silent: 2000, Brief: 1000, Slow: 1000},
	} {
		p, err := lab.StartCrowd(r.Cli[0], c)
		if p != nil {
			t.Cleanup(func() { p.Signal(9); p.Wait(5 * time.Second) })
		}
		r.must(err)
	}
	r.bounded(func() {
		began := time.Now()
		c := r.dial(lab.Dial{From: r.Cli[1]})
		r.must(c.WaitUp())
		if took := time.Since(began); took > floodConnect {
			t.Errorf("a client from elsewhere connected after %v", took)
		} else {
			t.Logf("a client from elsewhere connected after %v", took.Round(time.Millisecond))
		}
		r.must(hello4.run(r, c))
		for range 5 {
			time.Sleep(time.Second) // the crowd goes on
			r.must(hello4.run(r, c))
		}
		r.quit(c)
	})
}

// bounded does something and meanwhile looks again and again at what the
// server holds.
func (r *rig) bounded(do func()) {
	r.Helper()
	over := make(chan struct{})
	most := make(chan held, 1)
	go func() {
		var m held
		for m.err == nil {
			m.look(r.srv)
			select {
			case <-over:
				most <- m
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
		most <- m
	}()
	do()
	close(over)
	m := <-most
	r.must(m.err)
	r.Logf("at most %d workers; main: %d descriptors, %.1f MB", m.workers, m.files, float64(m.memory)/megabyte)
	if m.workers > floodWorkers || m.files > floodFiles || m.memory > floodMemory {
		r.Errorf("more than %d workers, %d descriptors or %d MB", floodWorkers, floodFiles, floodMemory/megabyte)
	}
}

// held is the most that was seen of workers, and of what main holds.
type held struct {
	workers, files int
	memory         int64
	err            error
}

func (m *held) look(srv *lab.Server) {
	roles, err := srv.Processes()
	if err != nil || len(roles[lab.RoleMain]) != 1 {
		m.err = fmt.Errorf("processes %v: %w", roles, err)
		return
	}
	pid := roles[lab.RoleMain][0].PID
	files, err1 := lab.Descriptors(pid)
	memory, err2 := lab.Private(pid)
	m.err = errors.Join(err1, err2)
	m.workers, m.files, m.memory = max(m.workers, len(roles[lab.RoleWorker])), max(m.files, files), max(m.memory, memory)
}

// Hellos for sessions that are none: no answer, nothing is made of them, and
// who has a session or wants one does not notice.
func TestWrongHellos(t *testing.T) {
	rocservOnly(t, "what it holds is another's")
	r := newRig(t, 2)
	hello := lab.CaptureHello(r.Cli[0])
	c := r.connect(lab.Dial{})
	b, err := hello()
	r.must(err)
	var wrongIDs [][]byte
	for range 10_000 {
		d := bytes.Clone(b)
		rand.Read(d[helloRandom : helloRandom+32])
		rand.Read(d[helloID : helloID+32])
		wrongIDs = append(wrongIDs, d)
	}
	answers := make(chan lab.Answers, 1)
	go func() {
		a, err := lab.SendVolley(r.Cli[1], lab.Volley{To: lab.ServerAt(lab.Srv4), From: lab.ClientAddr4(1), Datagrams: wrongIDs, Wait: 300 * time.Millisecond})
		if err != nil {
			t.Error(err)
		}
		answers <- a
	}()
	r.bounded(func() {
		began := time.Now()
		other := r.connect(lab.Dial{From: r.Cli[1]})
		if took := time.Since(began); took > floodConnect {
			t.Errorf("another client connected after %v", took)
		}
		r.must(hello4.run(r, other))
		r.must(hello4.run(r, c))
		r.quit(other)
		if a := <-answers; a.Datagrams > 0 {
			t.Errorf("%d answers", a.Datagrams)
		}
	})
	r.untouched(c)
}

// Where a ClientHello has its random and its session id: after the headers of
// record (13 bytes) and handshake (12), and the version.
const (
	helloRandom = 13 + 12 + 2
	helloID     = helloRandom + 32 + 1
)

// Somebody on the way replays a client's hello. The same one gets nothing. With
// another random it cannot be told from the client's: a handshake begins, at
// most two at a time, and ends; the channel in use stays.
func TestReplayedHello(t *testing.T) {
	t.Parallel() // it waits for handshakes to end
	rocservOnly(t, "it answers each")
	r := newRig(t, 2)
	captured := lab.CaptureHello(r.Cli[0])
	c := r.connect(lab.Dial{})
	hello, err := captured()
	r.must(err)
	me, other := lab.ClientAddr4(0), lab.ClientAddr4(1)
	worker, err := r.srv.Worker(me)
	r.must(err)
	sockets := func(peer string) int {
		n, err := lab.UDPSockets(worker.PID, peer)
		r.must(err)
		return n
	}
	files := func() int { n, err := lab.Descriptors(worker.PID); r.must(err); return n }
	before := files()
	if n := sockets(me); n != 1 {
		t.Fatalf("the client has %d sockets", n)
	}
	send := func(i int, list [][]byte) lab.Answers {
		a, err := lab.SendVolley(r.Cli[i], lab.Volley{To: lab.ServerAt(lab.Srv4), From: lab.ClientAddr4(i), Datagrams: list, Wait: time.Second})
		r.must(err)
		return a
	}

	same := slices.Repeat([][]byte{hello}, 50)
	if a := send(1, same); a.Datagrams != 0 || sockets(other) != 0 || files() != before {
		t.Errorf("the same hello from elsewhere: %+v, %d sockets, %d descriptors more", a, sockets(other), files()-before)
	}
	var changed [][]byte
	for range 50 {
		d := bytes.Clone(hello)
		rand.Read(d[helloRandom : helloRandom+32])
		changed = append(changed, d)
	}
	for i, peer := range []string{other, me} {
		if a := send(1-i, changed); a.Sources > 2 {
			t.Errorf("with other randoms from %s: %+v", peer, a)
		}
	}
	pending := sockets(other) + sockets(me) - 1
	if pending < 1 || pending > 2 {
		t.Errorf("%d handshakes are pending", pending)
	}
	r.must(hello4.run(r, c))
	r.within(20*time.Second, func() error {
		if n, m := sockets(other), sockets(me); n != 0 || m != 1 {
			return fmt.Errorf("%d sockets for elsewhere, %d for the client", n, m)
		}
		return nil
	})
	r.must(hello4.run(r, c))
	r.untouched(c)
}

// untouched makes sure that a client's DTLS channel is the one it began with.
func (r *rig) untouched(c *lab.Client) {
	r.Helper()
	if c.Count(lineDTLS) != 1 || c.Has(lineDTLSLost) || c.Has(`(?i)reconnect`) {
		r.Error("the channel in use was touched")
	}
}
