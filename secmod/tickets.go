package secmod

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"rocserv/internal/ipc"
)

const (
	// maxTicket bounds TLS session state, with a client's certificate chain in
	// it (ocserv, MAX_SESSION_DATA_SIZE).
	maxTicket = 4 << 10
	// minRotation is how long a key seals at least.
	minRotation = time.Hour
)

// tickets seals TLS session state, so that a client can resume at any worker
// and no worker can open what is another client's.
//
//	ticket = key number (4) ‖ nonce (12) ‖ AES-256-GCM(expiry (8) ‖ state)
//	additional data = "rocserv ticket" ‖ 0 ‖ client address ‖ 0 ‖ virtual host
//
// The address makes the difference: tickets travel in the clear, and the state
// is enough to read a recorded connection. A worker that is taken over can
// have tickets opened only of clients at the address that main says its own
// client has. A client that changes its network makes a full handshake.
type tickets struct {
	now func() time.Time

	mu       sync.Mutex // protects what follows
	life     time.Duration
	keys     [2]ticketKey // the one that seals, the one before
	rotateAt time.Time
}

type ticketKey struct {
	number uint32
	aead   cipher.AEAD // nil: none
}

// Format implements fmt.Formatter: the key is not shown.
func (ticketKey) Format(f fmt.State, _ rune) { io.WriteString(f, "[ticket key]") }

func newTickets(now func() time.Time) *tickets {
	return &tickets{now: now, life: 5 * time.Minute}
}

// outlive sets how long tickets are good (ocserv: cookie-timeout).
func (t *tickets) outlive(life time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.life = life
}

// current returns the sealing key, after making a new one if it is time. A key
// opens for one rotation after its last seal, which no ticket outlives.
func (t *tickets) current() (k ticketKey, expires time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.keys[0].aead == nil || !now.Before(t.rotateAt) {
		t.keys[1] = t.keys[0]
		t.keys[0] = newTicketKey(t.keys[0].number + 1)
		t.rotateAt = now.Add(max(minRotation, t.life))
	}
	return t.keys[0], now.Add(t.life)
}

func newTicketKey(number uint32) ticketKey {
	var secret [32]byte
	rand.Read(secret[:])
	defer clear(secret[:])
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		panic("secmod: internal error: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("secmod: internal error: " + err.Error())
	}
	return ticketKey{number: number, aead: aead}
}

func (t *tickets) key(number uint32) cipher.AEAD {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.keys {
		if k.number == number {
			return k.aead
		}
	}
	return nil
}

// seal makes a ticket; nil if the state is empty or too long.
func (t *tickets) seal(vhost string, peer netip.Addr, state []byte) []byte {
	if len(state) == 0 || len(state) > maxTicket {
		return nil
	}
	k, expires := t.current()
	plain := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	plain = append(plain, state...)
	defer clear(plain)
	return k.aead.Seal(binary.BigEndian.AppendUint32(nil, k.number), nil, plain, bound(vhost, peer))
}

// open returns the state in a ticket; nil if the ticket is not good here.
func (t *tickets) open(vhost string, peer netip.Addr, ticket []byte) []byte {
	if len(ticket) < 4 || len(ticket) > 2*maxTicket {
		return nil
	}
	aead := t.key(binary.BigEndian.Uint32(ticket))
	if aead == nil {
		return nil
	}
	plain, err := aead.Open(nil, nil, ticket[4:], bound(vhost, peer))
	if err != nil || len(plain) < 8 {
		return nil
	}
	if expires := time.Unix(int64(binary.BigEndian.Uint64(plain)), 0); !t.now().Before(expires) {
		clear(plain)
		return nil
	}
	return plain[8:]
}

// bound is the additional data. An address has no zero byte problem: its
// length (4 or 16) is told apart by the text in front.
func bound(vhost string, peer netip.Addr) []byte {
	b := append([]byte("rocserv ticket\x00"), byte(peer.BitLen()/8))
	b = append(b, peer.AsSlice()...)
	return append(b, vhost...)
}

func (g *generation) longestCookie() (longest time.Duration) {
	for _, v := range g.config.Vhosts {
		longest = max(longest, v.CookieTimeout)
	}
	return longest
}

// resumeSeal answers RESUME_SEAL.
func (w *worker) resumeSeal(q *ipc.ResumeReq) (*ipc.ResumeRep, error) {
	defer clear(q.Data)
	if err := w.pin(q.Vhost); err != nil {
		return nil, err
	}
	return &ipc.ResumeRep{Data: w.s.tickets.seal(q.Vhost, w.peer, q.Data)}, nil
}

// resumeOpen answers RESUME_OPEN.
func (w *worker) resumeOpen(q *ipc.ResumeReq) (*ipc.ResumeRep, error) {
	if err := w.pin(q.Vhost); err != nil {
		return nil, err
	}
	state := w.s.tickets.open(q.Vhost, w.peer, q.Data)
	if state != nil {
		w.move(resumed)
	}
	return &ipc.ResumeRep{Data: state}, nil
}
