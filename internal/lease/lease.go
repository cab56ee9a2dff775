package lease

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
)

// Errors of Take and Restore.
var (
	ErrExhausted = errors.New("lease: no address left")
	ErrConflict  = errors.New("lease: address is taken")
	ErrNetwork   = errors.New("lease: address is not one of its network")
	ErrNone      = errors.New("lease: neither IPv4 nor IPv6 to give")
	ErrRequest   = errors.New("lease: bad request")
)

// Request says what a session should get. A family without Want or without
// network is left out; leaving out both is an error.
type Request struct {
	Net4, Net6           netip.Prefix
	SubnetBits6          int        // 0: 128, an address per client
	Explicit4, Explicit6 netip.Addr // these or none; inside the network
	Predictable          bool
	Seed                 string // the user's name
	Want4, Want6         bool
}

// Lease is what a session holds. Without a family its addresses are invalid.
type Lease struct {
	IPv4, Gateway4 netip.Addr
	IPv6, Gateway6 netip.Addr
	Bits4          int // of Net4: the netmask shown
	Bits6          int // SubnetBits6: how much of IPv6 is the session's
}

// Table holds the leases. Safe for concurrent use.
type Table struct {
	rand io.Reader

	mu     sync.Mutex // protects the rest
	leases map[string]Lease
	used   *space
}

// New makes an empty table. rand is read for seeds; crypto/rand.Reader.
func New(rand io.Reader) *Table {
	return &Table{rand: rand, leases: map[string]Lease{}, used: newSpace()}
}

// Take gives owner the lease it has, or one as r asks.
func (t *Table) Take(owner string, r Request) (Lease, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.leases[owner]; ok {
		return l, nil
	}
	if r.SubnetBits6 == 0 {
		r.SubnetBits6 = 128
	}
	l, err := t.find(r)
	if err != nil {
		return Lease{}, err
	}
	t.enter(owner, l)
	return l, nil
}

// Restore enters a lease as it is.
func (t *Table) Restore(owner string, l Lease) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.leases[owner]; ok {
		if old == l {
			return nil
		}
		return fmt.Errorf("%w: owner has another lease", ErrConflict)
	}
	if err := l.check(); err != nil {
		return err
	}
	for _, b := range l.blocks() {
		if _, taken := t.used.blocker(b); taken {
			return fmt.Errorf("%w: %v, %v", ErrConflict, l.IPv4, l.IPv6)
		}
	}
	t.enter(owner, l)
	return nil
}

// check says whether a lease from outside can be one.
func (l Lease) check() error {
	switch {
	case !l.IPv4.IsValid() && !l.IPv6.IsValid():
		return ErrNone
	case l.IPv4.IsValid() && !l.IPv4.Is4(),
		l.IPv6.IsValid() && (!l.IPv6.Is6() || l.IPv6.Is4In6() || l.IPv6.Zone() != ""):
		return fmt.Errorf("%w: family of an address", ErrRequest)
	case l.IPv6.IsValid() && (l.Bits6 < 0 || l.Bits6 > 128):
		return fmt.Errorf("%w: subnet /%d", ErrRequest, l.Bits6)
	}
	return nil
}

// Free takes back what owner has, if anything.
func (t *Table) Free(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.leases[owner].blocks() {
		t.used.remove(b)
	}
	delete(t.leases, owner)
}

// Owner finds who holds an address.
func (t *Table) Owner(a netip.Addr) (owner string, ok bool) {
	a = a.Unmap()
	if !a.IsValid() {
		return "", false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.used.blocker(blockOf(a, a.BitLen()))
	return t.used.owners[b], ok
}

// Len is the number of leases.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.leases)
}

func (t *Table) enter(owner string, l Lease) {
	t.leases[owner] = l
	for _, b := range l.blocks() {
		t.used.add(b, owner)
	}
}

// blocks is the part of the address space the lease is.
func (l Lease) blocks() []block {
	b := make([]block, 0, 2)
	if l.IPv4.IsValid() {
		b = append(b, blockOf(l.IPv4, 32))
	}
	if l.IPv6.IsValid() {
		b = append(b, blockOf(l.IPv6, l.Bits6))
	}
	return b
}

// find finds a lease without entering it.
func (t *Table) find(r Request) (l Lease, err error) {
	if r.Want4 && (r.Net4.IsValid() || r.Explicit4.IsValid()) {
		p, err := newPool(r.Net4, 32)
		if err == nil && !p.is4() {
			err = fmt.Errorf("%w: %v is not IPv4", ErrRequest, r.Net4)
		}
		if err != nil {
			return Lease{}, err
		}
		if l.IPv4, err = t.address(p, r.Explicit4, r); err != nil {
			return Lease{}, fmt.Errorf("IPv4: %w", err)
		}
		l.Gateway4, l.Bits4 = p.gateway.addr(true), r.Net4.Bits()
	}
	if r.Want6 && (r.Net6.IsValid() || r.Explicit6.IsValid()) {
		p, err := newPool(r.Net6, r.SubnetBits6)
		if err == nil && p.is4() {
			err = fmt.Errorf("%w: %v is not IPv6", ErrRequest, r.Net6)
		}
		if err != nil {
			return Lease{}, err
		}
		if l.IPv6, err = t.address(p, r.Explicit6, r); err != nil {
			return Lease{}, fmt.Errorf("IPv6: %w", err)
		}
		l.Gateway6, l.Bits6 = p.gateway.addr(false), r.SubnetBits6
	}
	if !l.IPv4.IsValid() && !l.IPv6.IsValid() {
		return Lease{}, ErrNone
	}
	return l, nil
}

// address finds one address: the explicit one, or any.
func (t *Table) address(p pool, explicit netip.Addr, r Request) (netip.Addr, error) {
	if explicit.IsValid() {
		return t.explicit(p, explicit)
	}
	seed, err := t.seed(r)
	if err != nil {
		return netip.Addr{}, err
	}
	return p.find(seed, t.used)
}

// explicit checks an address that the configuration names.
func (t *Table) explicit(p pool, a netip.Addr) (netip.Addr, error) {
	if !p.net.Contains(a) || p.reserved(number(a)) {
		return netip.Addr{}, fmt.Errorf("%w: %v of %v", ErrNetwork, a, p.net)
	}
	if _, taken := t.used.blocker(p.subnetOf(number(a))); taken {
		return netip.Addr{}, fmt.Errorf("%w: %v", ErrConflict, a)
	}
	return a, nil
}

func (t *Table) seed(r Request) (seed, error) {
	if r.Predictable {
		return seedOf([]byte(r.Seed)), nil
	}
	var b [32]byte
	if _, err := io.ReadFull(t.rand, b[:]); err != nil {
		return seed{}, fmt.Errorf("lease: random seed: %w", err)
	}
	return seed(b), nil
}
