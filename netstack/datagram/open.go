package datagram

import (
	"fmt"
	"net/netip"

	"rocserv/egress"
	"rocserv/nat"
)

// errNoPing stands for the host's refusal while it is remembered.
var errNoPing = fmt.Errorf("datagram: ping sockets: %w", egress.ErrProhibited)

// openFlow makes the mapping and the socket for a packet to dst. The error is
// that of the Network, or errSilent.
func (r *Relay) openFlow(k nat.Key, dst netip.AddrPort) (*flow, error) {
	f := &flow{relay: r, kind: k.Kind, client: k.Client}
	if !r.enter(f, k, dst) {
		return nil, errSilent
	}
	// The lock is not held: opening is a handful of system calls, and whoever
	// receives must not wait for them. The flow may end meanwhile.
	sock, err := r.open(f)
	r.mu.Lock()
	ended := f.gone
	switch {
	case ended:
	case err != nil:
		r.table.Remove(f.mapping)
		f.gone = true
		r.makeRoom(k.Kind, err)
	default:
		f.sock = sock
	}
	r.mu.Unlock()
	if err != nil {
		r.tell(k.Kind, err)
		return nil, err
	}
	if ended {
		sock.Close()
		return nil, errSilent
	}
	return f, nil
}

// enter puts a flow into the table; false if it takes no more.
func (r *Relay) enter(f *flow, k nat.Key, dst netip.AddrPort) bool {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return false
	}
	ok := r.addFlow(f, k, dst)
	more := r.table.NeedPorts(r.up.now)
	r.mu.Unlock()
	r.sayPorts(more, 0)
	return ok
}

// addFlow does so. The lock is held.
func (r *Relay) addFlow(f *flow, k nat.Key, dst netip.AddrPort) bool {
	m, evicted, err := r.table.Add(k, dst, f, r.up.now)
	if err != nil {
		r.up.stats.Unopened++
		return false
	}
	f.mapping = m
	if evicted != nil {
		r.evicted = evicted.Value.end(r.evicted)
	}
	return true
}

func (r *Relay) open(f *flow) (egress.PacketSocket, error) {
	v6 := f.client.Addr().Is6()
	if f.kind == nat.Echo {
		return r.cfg.Net.OpenPing(v6, f)
	}
	return r.cfg.Net.OpenUDP(v6, f)
}

// makeRoom gives up another socket if the host has no more, so that the next
// attempt may succeed. The lock is held.
func (r *Relay) makeRoom(k nat.Kind, err error) {
	if egress.Classify(err) != egress.Exhausted {
		return
	}
	if m := r.table.Evict(k); m != nil {
		r.evicted = m.Value.end(r.evicted)
	}
}

// tell counts and logs that there is no socket: each reason once in a worker's
// life, for the client can bring it about as often as it wants.
func (r *Relay) tell(k nat.Kind, err error) {
	u := &r.up
	c := egress.Classify(err)
	switch {
	case c == egress.Prohibited && k == nat.Echo:
		u.noPing = u.now.Add(pingRetry)
		if !u.logged.ping {
			u.logged.ping = true
			r.cfg.Log.Warn("the host forbids ping sockets (net.ipv4.ping_group_range): clients' pings are refused", "err", err)
		}
	case c == egress.Prohibited: // counted where it is answered
	default:
		u.stats.Unopened++
		if !u.logged.sockets {
			u.logged.sockets = true
			r.cfg.Log.Warn("no socket for a client's datagrams", "err", err)
		}
	}
}
