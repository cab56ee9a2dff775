package dtls

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// maxInjected bounds the datagrams that wait for the reading goroutine.
const maxInjected = 256

// maxOffered bounds those that may be the client's from another address.
const maxOffered = 4

// mailbox holds what other goroutines have for the reading one. Who puts
// something in wakes it afterwards.
type mailbox struct {
	flag atomic.Bool // there is mail

	mu   sync.Mutex // protects the rest
	mail mail
}

type mail struct {
	datagrams [][]byte
	offers    []offered
	finished  []*handshake
	trim      bool
}

// datagrams adds what fits and says how many did not.
func (m *mailbox) datagrams(d [][]byte) (dropped int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := min(len(d), maxInjected-len(m.mail.datagrams))
	m.mail.datagrams = append(m.mail.datagrams, d[:n]...)
	m.flag.Store(true)
	return len(d) - n
}

// offered is a datagram that may be the client's from another address.
type offered struct {
	peer     netip.AddrPort
	datagram []byte
}

// offer adds o if there is room.
func (m *mailbox) offer(o offered) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mail.offers) == maxOffered {
		return false
	}
	m.mail.offers = append(m.mail.offers, o)
	m.flag.Store(true)
	return true
}

func (m *mailbox) handshake(h *handshake) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mail.finished = append(m.mail.finished, h)
	m.flag.Store(true)
}

func (m *mailbox) trim() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mail.trim = true
	m.flag.Store(true)
}

// waiting says whether take would find anything.
func (m *mailbox) waiting() bool { return m.flag.Load() }

func (m *mailbox) take() mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.mail
	m.mail = mail{}
	m.flag.Store(false)
	return got
}
