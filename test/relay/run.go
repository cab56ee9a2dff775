package relay

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxPacket is the longest packet a device gives, in bytes.
const maxPacket = 65536

// Device is a tun device of a network namespace.
type Device struct {
	Namespace string // a name of ip-netns(8)
	Name      string // of the device
}

// Open makes the device and opens it. It is gone when the file is closed.
func (d Device) Open() (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine: it has left its namespace
		f, err := d.open()
		done <- result{f, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("device %s in %s: %w", d.Name, d.Namespace, r.err)
	}
	return r.f, nil
}

func (d Device) open() (*os.File, error) {
	ns, err := os.Open("/run/netns/" + d.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(d.Name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tun"), nil // with the poller: it is not blocking
}

// Direction is a Line in real time, from one device to another.
type Direction struct {
	from, to *os.File
	begun    time.Time

	mu   sync.Mutex
	line Line
	todo flights
	n    int
	wake chan struct{} // capacity 1
}

// NewDirection makes one. Run runs it.
func NewDirection(from, to *os.File, seed uint64) *Direction {
	return &Direction{
		from: from, to: to, begun: time.Now(), wake: make(chan struct{}, 1),
		line: Line{Rand: rand.New(rand.NewPCG(seed, 2))},
	}
}

// Set changes the path.
func (d *Direction) Set(p Path) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line.Path = p
}

// Counts returns what has become of packets so far.
func (d *Direction) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.line.Counts
}

// Run moves packets until a device is closed.
func (d *Direction) Run() error {
	go d.deliver()
	b := make([]byte, maxPacket)
	for {
		n, err := d.from.Read(b)
		if err != nil {
			return err
		}
		d.take(append([]byte(nil), b[:n]...))
	}
}

func (d *Direction) take(b []byte) {
	d.mu.Lock()
	now := time.Since(d.begun)
	at, n := d.line.Send(now, len(b))
	first := len(d.todo) == 0 || n > 0 && at[0] < d.todo[0].at
	for i := range n {
		d.n++
		heap.Push(&d.todo, flight{at[i], d.n, b})
	}
	d.mu.Unlock()
	if first && n > 0 {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// deliver writes what has arrived.
func (d *Direction) deliver() {
	timer := time.NewTimer(time.Hour)
	for {
		b, wait := d.next()
		if b != nil {
			if _, err := d.to.Write(b); errors.Is(err, os.ErrClosed) {
				return
			}
			continue // a full device drops, as any queue does
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-d.wake:
		}
	}
}

// next returns a packet whose time has come, or how long to wait.
func (d *Direction) next() ([]byte, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.todo) == 0 {
		return nil, time.Hour
	}
	if wait := d.todo[0].at - time.Since(d.begun); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&d.todo).(flight).b, 0
}

// flight is a packet under way.
type flight struct {
	at time.Duration
	n  int // keeps the order of those that arrive together
	b  []byte
}

type flights []flight

func (h flights) Len() int { return len(h) }
func (h flights) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h flights) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *flights) Push(x any)   { *h = append(*h, x.(flight)) }
func (h *flights) Pop() any {
	old := *h
	f := old[len(old)-1]
	old[len(old)-1] = flight{}
	*h = old[:len(old)-1]
	return f
}
