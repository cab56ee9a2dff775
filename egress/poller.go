package egress

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rocserv/internal/moderation"
)

const (
	recvMax   = 32 // messages for one recvmmsg: a socket's turn
	eventsMax = 64 // sockets served in one round

	// A slot takes the longest datagram there is. Only pages that were written
	// take memory, so usually one for each slot. The distance between slots is
	// odd in cache lines: at 64 KiB all headers would fall into one cache set.
	slotLen    = 64 << 10
	slotStride = slotLen + 3*64
)

// poller receives for all packet sockets of a Direct on one goroutine.
//
// The sockets are in an epoll instance of their own, and its descriptor is in
// Go's poller: waiting parks the goroutine, no thread.
type poller struct {
	file *os.File        // the epoll instance
	raw  syscall.RawConn // of file

	mu      sync.Mutex // protects the rest up to done
	epfd    int        // -1 when closed
	sockets map[uint64]*socket
	lastID  uint64

	done chan struct{} // closed when the goroutine has ended

	events   [eventsMax]unix.EpollEvent // the goroutine's, as are the next three
	ready    int                        // events of this round
	leftover []*socket                  // whose last turn did not empty them
	served   []*socket                  // leftover of the round before, kept for its room
	meter    moderation.Meter           // of what is received
	count    int                        // messages of this round

	in   recvBatch
	out  sendBatch
	errs errorQueue
}

func newPoller() (*poller, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	// os.NewFile gives non-blocking descriptors to Go's poller.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, err
	}
	f := os.NewFile(uintptr(epfd), "epoll")
	p := &poller{file: f, epfd: epfd, sockets: make(map[uint64]*socket), done: make(chan struct{})}
	if err := p.init(); err != nil {
		f.Close()
		return nil, err
	}
	go p.run()
	return p, nil
}

func (p *poller) init() (err error) {
	// A file that Go's poller did not take has no deadlines.
	if err := p.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return err
	}
	return p.in.init()
}

// add puts a socket under the poller; its descriptor must be set.
//
// Edge triggered: each arrival is told once, which saves the system call that
// would ask again before every sleep (0.3 µs). A turn that ends by the batch's
// limit leaves the socket among the leftovers; one that ends by EAGAIN has
// emptied it; one that is ended by an error between datagrams is followed by the
// error's own event.
func (p *poller) add(s *socket) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epfd < 0 {
		return errClosed
	}
	p.lastID++
	s.id = p.lastID
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(s.id), Pad: int32(s.id >> 32)}
	if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, s.fd, &ev); err != nil {
		return err
	}
	p.sockets[s.id] = s
	return nil
}

// remove takes a socket out, before its descriptor is closed. An event for it
// that is on its way finds no socket: numbers are not used twice.
func (p *poller) remove(id uint64, fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sockets, id)
	if p.epfd >= 0 {
		unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

func (p *poller) find(ev *unix.EpollEvent) *socket {
	id := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sockets[id]
}

// run is the goroutine. One round gives every ready socket one turn, then the
// other goroutines, which have been given work, one of theirs. While many datagrams
// come, they gather before the next round.
func (p *poller) run() {
	defer close(p.done)
	wait := p.wait // once, for it allocates
	p.meter.Start(time.Now(), moderation.OfDatagrams)
	for p.raw.Read(wait) == nil {
		p.count = 0
		p.in.mu.Lock()
		p.round()
		p.in.mu.Unlock()
		runtime.Gosched()
		// As short ones: a long datagram is not to wait for others either.
		p.meter.Add(p.count, 0, time.Now())
		if len(p.leftover) == 0 {
			p.meter.Nap()
		}
	}
}

// wait says whether there is anything to do; if not, Go's poller waits. It
// cannot miss an event: an arrival after the question wakes the epoll instance.
func (p *poller) wait(fd uintptr) bool {
	var errno unix.Errno
	for {
		if p.ready, errno = epollWait(int(fd), p.events[:]); errno != unix.EINTR {
			break
		}
	}
	if errno != 0 {
		p.ready = 0
	}
	return p.ready > 0 || len(p.leftover) > 0
}

func (p *poller) round() {
	turns := p.leftover
	p.leftover = p.served[:0]
	for i := range p.events[:p.ready] {
		ev := &p.events[i]
		s := p.find(ev)
		if s == nil {
			continue // closed since
		}
		if ev.Events&unix.EPOLLERR != 0 {
			p.serveErrors(s)
		}
		if !s.left { // else it has its turn below
			p.serve(s)
		}
	}
	for _, s := range turns {
		s.left = false
		if s.errs {
			p.serveErrors(s)
		}
		if !s.left {
			p.serve(s)
		}
	}
	clear(turns)
	p.served = turns[:0]
}

// serveErrors is one socket's turn with its errors.
func (p *poller) serveErrors(s *socket) {
	s.failed()
	if s.errs && !s.left {
		s.left = true
		p.leftover = append(p.leftover, s)
	}
}

// serve is one socket's turn.
func (p *poller) serve(s *socket) {
	n := s.receive(p.in.hdrs[:])
	if n == 0 {
		return
	}
	p.count += n
	if n == recvMax {
		s.left = true
		p.leftover = append(p.leftover, s)
	}
	if msgs := s.received(p.in.messages(n)); len(msgs) > 0 {
		s.r.Receive(msgs)
	}
	p.in.reset(n)
}

// trim gives the pages of the receive buffers back, unless a round is going on.
func (p *poller) trim() {
	if p.in.mu.TryLock() {
		unix.Madvise(p.in.mem, unix.MADV_DONTNEED)
		p.in.mu.Unlock()
	}
}

// close ends the goroutine, waits for it and closes what is still open.
func (p *poller) close() {
	p.mu.Lock()
	p.epfd = -1
	left := p.sockets
	p.sockets = nil
	p.mu.Unlock()
	for _, s := range left {
		s.Close()
	}
	p.file.Close()
	<-p.done
	p.in.free()
}

// recvBatch is what recvmmsg points to. It belongs to the poller's goroutine;
// mu is there for trim.
type recvBatch struct {
	mu   sync.Mutex
	mem  []byte // not of Go's heap: mapped, so that pages nobody wrote cost nothing
	hdrs [recvMax]mmsghdr
	iovs [recvMax]unix.Iovec
	addr [recvMax]sockaddr
	ctl  [recvMax]control
	msgs [recvMax]Message
}

func (b *recvBatch) init() error {
	mem, err := unix.Mmap(-1, 0, recvMax*slotStride, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	b.mem = mem
	for i := range recvMax {
		b.iovs[i].Base = &mem[i*slotStride]
		b.iovs[i].SetLen(slotLen)
		h := &b.hdrs[i].hdr
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.addr[i]))
		h.Control = (*byte)(unsafe.Pointer(&b.ctl[i]))
	}
	b.reset(recvMax)
	return nil
}

func (b *recvBatch) free() {
	unix.Munmap(b.mem)
	b.mem = nil
}

// reset gives the kernel back the lengths it has overwritten.
func (b *recvBatch) reset(n int) {
	for i := range n {
		h := &b.hdrs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(b.addr[i]))
		h.SetControllen(controlLen)
	}
}

// messages gives what the first n slots hold.
func (b *recvBatch) messages(n int) []Message {
	for i := range n {
		at := i * slotStride
		b.msgs[i] = Message{
			Addr:    b.addr[i].get(),
			Payload: b.mem[at : at+int(b.hdrs[i].len) : at+slotLen],
			TTL:     b.ctl[i].ttl(int(b.hdrs[i].hdr.Controllen)),
		}
	}
	return b.msgs[:n]
}
