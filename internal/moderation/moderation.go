package moderation

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	busyRate = 20_000 // packets a second above which the reading goroutine naps
	rateSpan = 5 * time.Millisecond
	minNap   = 50 * time.Microsecond
	// longPacket is the mean length, in bytes, from which on packets are an upload.
	longPacket = 512
	// gatherNap is how long Gather waits to see whether more comes, at most
	// gatherMost times.
	gatherNap  = 100 * time.Microsecond
	gatherMost = 6
)

// Gathering is what a nap waits for.
type Gathering struct {
	packets int           // that make a batch large enough
	most    time.Duration // to wait for them
}

var (
	ofLong = Gathering{64, 600 * time.Microsecond}
	// OfStream and OfDatagrams are for short packets, by what the channel is.
	// A datagram's client has room for a hundred on their way to it, which are
	// not to wait for acknowledgements longer than they must.
	OfStream    = Gathering{48, 200 * time.Microsecond}
	OfDatagrams = Gathering{32, 100 * time.Microsecond}
)

// Meter follows the rate at which a channel receives, and waits accordingly.
type Meter struct {
	on        bool
	short     Gathering
	rate      float64 // packets per nanosecond, smoothed over about rateSpan
	last      time.Time
	n, length int // packets of the last batch, and bytes in them
}

// Start begins at now; short is for short packets. Naps are for one processor only (a
// worker's setting): with more the others work on while this one naps, and nothing
// gathers for them.
func (m *Meter) Start(now time.Time, short Gathering) {
	*m = Meter{on: runtime.GOMAXPROCS(0) == 1, short: short, last: now}
}

// Add notes a batch: n packets of length bytes together.
func (m *Meter) Add(n, length int, now time.Time) {
	if !m.on {
		return
	}
	since := float64(max(now.Sub(m.last), 0))
	m.last = now
	m.rate = (m.rate*float64(rateSpan) + float64(n)) / (float64(rateSpan) + since)
	m.n, m.length = n, length
}

// Busy says that the rate is high enough for naps.
func (m *Meter) Busy() bool { return m.rate*float64(time.Second) > busyRate }

// On says whether there are naps at all.
func (m *Meter) On() bool { return m.on }

// Gather waits as long as more comes: while unread, the bytes that wait to be read,
// grows. It is for a client whose window is about to close, after which nothing comes.
func (m *Meter) Gather(unread func() int) {
	if !m.on || !m.Busy() {
		return
	}
	for had, n := unread(), 0; n < gatherMost; n++ {
		sleep(gatherNap)
		now := unread()
		if now == had {
			return
		}
		had = now
	}
}

// Nap waits until about as much has gathered as makes a batch large enough, and
// not at all if the last one was.
func (m *Meter) Nap() {
	if d := m.nap(); d > 0 {
		sleep(d)
	}
}

func (m *Meter) nap() time.Duration {
	want := ofLong
	if m.length < m.n*longPacket {
		want = m.short
	}
	if m.n == 0 || m.n >= want.packets || !m.Busy() {
		return 0
	}
	return min(max(time.Duration(float64(want.packets-m.n)/m.rate), minNap), want.most)
}

// sleep does not tell the scheduler, whose own sleep is rounded up to about a
// millisecond by the poller.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}
