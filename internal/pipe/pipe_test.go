package pipe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair makes two ends.
func pair(t testing.TB, a, b Config) (*Pipe, *Pipe) {
	t.Helper()
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(fd[0], a)
	if err != nil {
		t.Fatal(err)
	}
	q, err := New(fd[1], b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); q.Close() })
	return p, q
}

// sink is a Receiver that keeps copies.
type sink struct {
	mu       sync.Mutex
	batches  []int
	packets  [][]byte
	messages [][]byte
	fds      []int
	refuse   error
	gate     chan struct{} // not nil: Packets waits for it
}

func (s *sink) Packets(pkts [][]byte) {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, len(pkts))
	for _, p := range pkts {
		s.packets = append(s.packets, bytes.Clone(p))
	}
}

func (s *sink) Message(b []byte, fds []int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, bytes.Clone(b))
	s.fds = append(s.fds, fds...)
	return s.refuse
}

func add(p *Pipe, b []byte) {
	copy(p.Next(len(b)), b)
	p.Add(len(b))
}

func TestBatchesStayTogether(t *testing.T) {
	a, b := pair(t, Config{Patience: Forever}, Config{})
	var got sink
	add(a, []byte("one"))
	add(a, []byte("two"))
	a.Flush()
	a.Flush() // nothing to send
	add(a, bytes.Repeat([]byte{7}, MaxPacket))
	a.Flush()
	a.Close()
	if err := b.Serve(&got); err != io.EOF {
		t.Fatal(err)
	}
	if len(got.batches) != 2 || got.batches[0] != 2 || string(got.packets[0])+string(got.packets[1]) != "onetwo" || len(got.packets[2]) != MaxPacket {
		t.Errorf("batches %v", got.batches)
	}
}

// More than a record holds goes out as several, and nothing is lost on the way.
func TestManyPackets(t *testing.T) {
	a, b := pair(t, Config{Patience: Forever}, Config{})
	var got sink
	done := make(chan error, 1)
	go func() { done <- b.Serve(&got) }()
	const n = 5000
	for i := range uint32(n) {
		binary.BigEndian.PutUint32(a.Next(1400), i)
		a.Add(1400)
	}
	a.Flush()
	a.Close()
	if err := <-done; err != io.EOF {
		t.Fatal(err)
	}
	if len(got.packets) != n || a.Dropped() != 0 {
		t.Fatalf("%d packets, %d dropped", len(got.packets), a.Dropped())
	}
	for i, p := range got.packets {
		if binary.BigEndian.Uint32(p) != uint32(i) {
			t.Fatalf("packet %d is %d", i, binary.BigEndian.Uint32(p))
		}
	}
	for _, k := range got.batches {
		if k > MaxRecord/1400 {
			t.Errorf("a batch of %d", k)
		}
	}
}

// A pair without patience drops and counts; one with some waits and then drops;
// one with endless patience waits.
func TestFull(t *testing.T) {
	for _, patience := range []time.Duration{0, 20 * time.Millisecond} {
		a, b := pair(t, Config{Patience: patience}, Config{})
		for range 10000 {
			a.Next(1400)
			a.Add(1400)
			if a.Dropped() > 0 {
				break
			}
		}
		if a.Dropped() == 0 {
			t.Fatalf("patience %v: nothing was dropped", patience)
		}
		a.Flush()
		dropped := a.Dropped()
		var got sink
		if err := b.ReceiveOne(&got, time.Now().Add(time.Second)); err != nil || len(got.packets) == 0 {
			t.Fatal(err)
		}
		// There is room again once the other end has read.
		for b.ReceiveOne(&got, time.Now().Add(10*time.Millisecond)) == nil {
		}
		add(a, []byte("again"))
		a.Flush()
		if err := b.ReceiveOne(&got, time.Now().Add(time.Second)); err != nil || a.Dropped() != dropped {
			t.Errorf("patience %v: %v, %d dropped", patience, err, a.Dropped()-dropped)
		}
	}
}

func TestForeverWaitsUntilClose(t *testing.T) {
	a, _ := pair(t, Config{Patience: Forever}, Config{})
	done := make(chan struct{})
	go func() {
		for a.failed == nil {
			a.Next(1400)
			a.Add(1400)
		}
		close(done)
	}()
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	a.Close()
	<-done
	add(a, []byte("x")) // discarded, and no crash
	a.Flush()
	if err := a.Message([]byte("x"), time.Time{}); err == nil {
		t.Error("a message went into a closed pipe")
	}
}

func TestMessagesCarryDescriptors(t *testing.T) {
	a, b := pair(t, Config{Patience: Forever}, Config{})
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	add(a, []byte("before"))
	if err := a.Message([]byte("m"), time.Now().Add(time.Second), fd[1]); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd[1])
	var got sink
	for range 2 {
		if err := b.ReceiveOne(&got, time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.packets) != 1 || string(got.messages[0]) != "m" || len(got.fds) != 1 {
		t.Fatalf("%q %q %v", got.packets, got.messages, got.fds)
	}
	unix.Write(got.fds[0], []byte("hello"))
	unix.Close(got.fds[0])
	r := os.NewFile(uintptr(fd[0]), "pipe")
	defer r.Close()
	if all, err := io.ReadAll(r); err != nil || string(all) != "hello" {
		t.Errorf("%q %v", all, err)
	}
}

// Records that break the rules end the pipe and leak no descriptor.
func TestMalformed(t *testing.T) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd[0])
	tests := map[string]struct {
		rec []byte
		fds []int
	}{
		"unknown kind":             {[]byte{9, 1}, nil},
		"no packet":                {[]byte{packets}, nil},
		"half a length":            {[]byte{packets, 0}, nil},
		"empty packet":             {[]byte{packets, 0, 0}, nil},
		"packet beyond the end":    {[]byte{packets, 0, 9, 1}, nil},
		"too long":                 {append([]byte{packets}, make([]byte, MaxRecord)...), nil},
		"descriptors with packets": {[]byte{packets, 0, 1, 1}, []int{fd[1]}},
		"unknown with descriptor":  {[]byte{9}, []int{fd[1]}},
		"too many descriptors":     {[]byte{message}, many(fd[1], MaxFDs+1)},
	}
	for name, tt := range tests {
		a, b := pair(t, Config{}, Config{})
		var oob []byte
		if tt.fds != nil {
			oob = unix.UnixRights(tt.fds...)
		}
		if _, _, err := a.conn.WriteMsgUnix(tt.rec, oob, nil); err != nil {
			t.Fatal(name, err)
		}
		var got sink
		if err := b.ReceiveOne(&got, time.Now().Add(time.Second)); !errors.Is(err, ErrFormat) || len(got.fds) > 0 {
			t.Errorf("%s: %v, descriptors %v", name, err, got.fds)
		}
	}
	unix.Close(fd[1])
	unix.SetNonblock(fd[0], true)
	if n, err := unix.Read(fd[0], make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("a descriptor is still open somewhere: %d, %v", n, err)
	}
}

func many(fd, n int) (fds []int) {
	for range n {
		fds = append(fds, fd)
	}
	return fds
}

func TestNoSeqpacket(t *testing.T) {
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd[1])
	if _, err := New(fd[0], Config{}); err == nil {
		t.Error("a stream was taken")
	}
}

func TestReceiverEndsServe(t *testing.T) {
	a, b := pair(t, Config{}, Config{})
	no := errors.New("no")
	if err := a.Message([]byte("x"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(&sink{refuse: no}); !errors.Is(err, no) {
		t.Error(err)
	}
	b.Close()
	if err := b.Serve(&sink{}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// null is a Receiver that keeps nothing.
type null struct{}

func (null) Packets([][]byte)                {}
func (null) Message(_ []byte, _ []int) error { return nil }

func TestSteadyPathDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	a, b := pair(t, Config{Patience: Forever}, Config{})
	p := make([]byte, 1400)
	b.to = null{}
	n := testing.AllocsPerRun(200, func() {
		for range 20 {
			add(a, p)
		}
		a.Flush()
		if err := b.receive(); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0, 3, 1, 2, 3, 0, 1, 9})
	f.Add([]byte{0, 0})
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		pkts, ok := parse(nil, b)
		total := 0
		for _, p := range pkts {
			if len(p) == 0 || len(p) > MaxPacket {
				t.Fatalf("a packet of %d bytes", len(p))
			}
			total += 2 + len(p)
		}
		if ok && (total != len(b) || countPackets(append([]byte{0}, b...)) != uint64(len(pkts))) {
			t.Fatalf("%d of %d bytes", total, len(b))
		}
	})
}
