package dtls

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

const (
	defaultTimeout   = 10 * time.Second
	defaultMaxPacket = 1500
	pskLen           = 32 // openconnect exports as many bytes
	masterLen        = 48 // RFC 5246 section 8.1
	typeLen          = 1  // the packet type in front of a payload
)

var (
	// ErrHandshake wraps why a handshake failed; errors.Is also finds
	// context.DeadlineExceeded in it when the time was up.
	ErrHandshake = errors.New("dtls: handshake failed")
	// ErrHello is returned by Start if the first datagram is no usable ClientHello.
	ErrHello = errors.New("dtls: not a ClientHello")
	// ErrCloseNotify says that the client closed the channel.
	ErrCloseNotify = errors.New("dtls: closed by the client")
	// ErrAlert says that the client ended the channel with a fatal alert.
	ErrAlert = errors.New("dtls: fatal alert")
)

// Receiver is told what becomes of a channel. All calls come from the
// channel's reading goroutine, one at a time.
type Receiver interface {
	// Established says that a client has proved the key: what it sends from now
	// on is received. It may not have our last flight yet, so nothing should be
	// sent before the first Packets. It is called again when the client
	// completes a new handshake on the same socket; Overhead and Suite may then
	// have changed, and what is sent before the next Packets is lost.
	Established(c *Channel)
	// Packets gives the packets of one wake-up. They are valid during the call,
	// and may be written to.
	Packets(c *Channel, p []wire.Packet)
	// Closed is the last call. err is ErrHandshake, ErrCloseNotify, ErrAlert, an
	// error of dtlsrecord, or net.ErrClosed after Close. By now the socket is
	// closed and no goroutine but the calling one is left.
	Closed(c *Channel, err error)
}

// Config is what Start needs.
type Config struct {
	FD               int            // a UDP socket connected to Peer; Start takes it over, in any case
	Peer             netip.AddrPort // datagrams from elsewhere are ignored
	First            [][]byte       // datagrams that came before the hand-over, the ClientHello first
	Keys             Keys           // exactly one of them; copied
	Suites           []uint16       // what may be used, best first
	Receiver         Receiver
	HandshakeTimeout time.Duration // of each handshake; 0: 10 seconds
	MaxPacket        int           // longest packet the client may send, MTU probes included; 0: 1500
	// TooBig is told the length of a packet that was too long for the path, or
	// 0 if only that one was is known; the package comment says when. May be nil.
	TooBig func(c *Channel, n int)
	// Fragment lets routers cut IPv4 datagrams that are too long for the path.
	Fragment bool
	// Moved is told, on the reading goroutine, that the client has another
	// address: see Offer. May be nil.
	Moved func(peer netip.AddrPort)
	Log   *slog.Logger
	Now   func() time.Time // nil: time.Now
}

// Keys is what a handshake begins with.
type Keys struct {
	// PSK, 32 bytes, is for a full handshake; the suites are 0x00a8, 0x00a9, 0xccab.
	PSK secret.Bytes
	// Master, 48 bytes, is the master secret of a session that the client resumes,
	// named by the session_id of its hello; the suites are 0xc02f, 0xc030, 0x009c,
	// 0x009d.
	Master secret.Bytes
}

// None says that there is no key.
func (k Keys) None() bool { return k.PSK.IsZero() && k.Master.IsZero() }

func (k Keys) clone() Keys {
	return Keys{PSK: secret.NewBytes(slices.Clone(k.PSK.Reveal())), Master: secret.NewBytes(slices.Clone(k.Master.Reveal()))}
}

func (k Keys) clear() {
	k.PSK.Clear()
	k.Master.Clear()
}

// check says what is wrong with keys and suites.
func (k Keys) check(suites []uint16) error {
	fits := pskSuite
	psk, master := len(k.PSK.Reveal()), len(k.Master.Reveal())
	switch {
	case psk == pskLen && master == 0:
	case psk == 0 && master == masterLen:
		fits = resumedSuite
	default:
		return fmt.Errorf("dtls: PSK of %d bytes, master secret of %d; want %d or %d", psk, master, pskLen, masterLen)
	}
	if len(suites) == 0 {
		return errors.New("dtls: no cipher suite")
	}
	for _, id := range suites {
		if !fits(id) {
			return fmt.Errorf("dtls: %w: %#04x", dtlsrecord.ErrSuite, id)
		}
	}
	return nil
}

// Channel is the DTLS channel of one client.
type Channel struct {
	cfg     Config
	sock    *socket
	in      reader // owned by the reading goroutine
	out     sender // owned by whoever may call Next, Add and Flush
	mail    mailbox
	current atomic.Pointer[association] // newest keys; its sealer belongs to out, the rest to in
	cause   atomic.Pointer[error]       // why the channel ends; nil while it does not
	busy    atomic.Bool
	count   counters
	shakes  sync.WaitGroup // handshake goroutines
	done    chan struct{}
}

// Start begins the handshake that cfg.First asks for. The descriptor is taken
// over also if an error is returned.
func Start(cfg Config) (*Channel, error) {
	sock, err := openSocket(cfg.FD, cfg.Peer, cfg.Fragment)
	if err != nil {
		return nil, fmt.Errorf("dtls: socket: %w", err)
	}
	c, err := newChannel(cfg, sock)
	if err != nil {
		sock.close()
		return nil, err
	}
	go c.serve()
	return c, nil
}

// newChannel is Start without the reading goroutine.
func newChannel(cfg Config, sock *socket) (*Channel, error) {
	if err := cfg.Keys.check(cfg.Suites); err != nil {
		return nil, err
	}
	if len(cfg.First) == 0 {
		return nil, ErrHello
	}
	first, ok := parseHello(cfg.First[0])
	if !ok || cfg.Keys.PSK.IsZero() && len(first.session) == 0 {
		return nil, ErrHello
	}
	cfg.Keys = cfg.Keys.clone()
	cfg.Suites = slices.Clone(cfg.Suites)
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = defaultTimeout
	}
	if cfg.MaxPacket == 0 {
		cfg.MaxPacket = defaultMaxPacket
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Channel{cfg: cfg, sock: sock, done: make(chan struct{})}
	c.in.init(c, first.session)
	c.out.init(c)
	c.mail.datagrams(cfg.First)
	c.cfg.First = nil
	return c, nil
}

// Inject gives the channel datagrams of its client that arrived elsewhere. They
// belong to the channel from now on. It may be called from any goroutine and
// does not block.
func (c *Channel) Inject(datagrams [][]byte) {
	dropped := c.mail.datagrams(datagrams)
	c.count.odd.Add(uint64(dropped))
	c.sock.wake()
}

// Offer gives the channel a datagram that may be its client's from another
// address: a translator on the way has forgotten it. If it is one record of data,
// authentic and newer than all before, it counts as received, the socket is connected
// to peer, and Moved called; where that address is not to be had the socket stays as it
// is. Any other datagram changes no more than a count. It may be called from any goroutine and does not
// block.
func (c *Channel) Offer(peer netip.AddrPort, datagram []byte) {
	if !c.mail.offer(offered{peer, datagram}) {
		c.count.odd.Add(1)
		return
	}
	c.sock.wake()
}

// Busy says that so much arrives that the reading goroutine naps between
// batches. Only then is it worth while to put off a Flush.
func (c *Channel) Busy() bool { return c.busy.Load() }

// Overhead is by how many bytes the UDP payload that carries a packet is longer
// than the packet: record and type byte. Before the handshake is done it is
// the most it can become.
func (c *Channel) Overhead() int {
	if a := c.current.Load(); a != nil {
		return a.suite.Overhead() + typeLen
	}
	return maxOverhead
}

// Suite describes what was negotiated as GnuTLS does, for example
// "(DTLS1.2)-(PSK)-(AES-128-GCM)"; it is empty before the handshake is done.
func (c *Channel) Suite() string {
	if a := c.current.Load(); a != nil {
		return a.suite.String()
	}
	return ""
}

// PathMTU is the longest IP packet that fits the path to the client as far as
// the kernel knows, headers included; 0 if it does not say.
func (c *Channel) PathMTU() int { return c.sock.pathMTU() }

// Trim gives back buffers that traffic has made grow. For an idle channel, and
// harmless for a busy one. The caller serialises it with Next, Add and Flush.
func (c *Channel) Trim() {
	c.out.trim()
	c.mail.trim()
	c.sock.wake()
}

// Close ends the channel. It wakes who is parked in Flush and does not wait for
// the rest: Receiver.Closed is called when all is gone, then Done is closed.
func (c *Channel) Close() { c.fail(net.ErrClosed) }

// Done is closed after Receiver.Closed has returned.
func (c *Channel) Done() <-chan struct{} { return c.done }

// fail begins the end; the first cause counts.
func (c *Channel) fail(err error) {
	if c.cause.CompareAndSwap(nil, &err) {
		c.sock.interrupt()
	}
}

func (c *Channel) ended() bool { return c.cause.Load() != nil }

// serve is the reading goroutine.
func (c *Channel) serve() {
	poll := c.in.poll
	for {
		// The wake-up is cleared before its reasons are looked for: one that
		// comes later ends the next wait at once.
		c.sock.clearWake()
		if c.ended() {
			break
		}
		c.in.takeMail()
		if err := c.sock.wait(poll); err != nil {
			c.fail(fmt.Errorf("dtls: socket: %w", err))
		}
	}
	c.end()
}

// end takes everything down, in the order that leaves nothing behind.
func (c *Channel) end() {
	c.in.abandon()
	c.shakes.Wait()
	c.sock.close()
	c.cfg.Keys.clear()
	c.cfg.Receiver.Closed(c, *c.cause.Load())
	close(c.done)
}
