package mainproc

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	helloWindow   = 10 * time.Second // what bounds below are counted in
	hellosPerApp  = 2                // new sockets for one session in that time: DTLS handshakes pending
	hellosPerHost = 256              // and for one source, which may be a large network's translator
	maxHosts      = 4096
	knownRandoms  = 16 // of a session, newest
)

// hellos says which ClientHellos get a socket. An App-ID can be seen on the
// wire, and a hello with it sent again by anybody:
//
//   - the same again, from elsewhere than the session's TCP connection, is a
//     replay and gets nothing;
//   - with another random it cannot be told from the client's own. So each
//     session gets two sockets in ten seconds, and of these only one may go to
//     where its TCP connection is not from: who replays does not keep the client
//     itself out.
type hellos struct {
	live   func(id []byte) bool // whether the App-ID is still a session's
	apps   map[appID]*helloRecord
	hosts  map[netip.Prefix]int
	window time.Time // since when hosts counts
}

// helloRecord is what a session's hellos have led to.
type helloRecord struct {
	last     [hellosPerApp]time.Time // sockets made for it, oldest first
	stranger time.Time               // the last of them for another source than home
	randoms  []uint64                // of those that got a socket, oldest first: short
}

type helloVerdict uint8

const (
	helloWelcome helloVerdict = iota
	helloReplayed
	helloTooMany
)

func newHellos(live func(id []byte) bool) *hellos {
	return &hellos{live: live, apps: make(map[appID]*helloRecord), hosts: make(map[netip.Prefix]int)}
}

// judge says whether a hello of a session gets a socket, and counts it. home is
// where the session's TCP connection is from.
func (s *hellos) judge(app appID, random [32]byte, peer, home netip.Addr, now time.Time) helloVerdict {
	s.sweep(now)
	r := s.apps[app]
	if r == nil {
		r = new(helloRecord)
	}
	host := hostOf(peer)
	stranger := host != hostOf(home)
	switch {
	case stranger && slices.Contains(r.randoms, short(random)):
		return helloReplayed
	case now.Sub(r.last[0]) < helloWindow, stranger && now.Sub(r.stranger) < helloWindow:
		return helloTooMany
	case s.hosts[host] >= hellosPerHost, len(s.hosts) >= maxHosts && s.hosts[host] == 0:
		return helloTooMany
	}
	copy(r.last[:], r.last[1:])
	r.last[hellosPerApp-1] = now
	if stranger {
		r.stranger = now
	}
	s.apps[app] = r
	s.hosts[host]++
	return helloWelcome
}

// opened notes that a hello got its socket: the same again is a replay.
func (s *hellos) opened(app appID, random [32]byte) {
	r := s.apps[app]
	if len(r.randoms) == knownRandoms {
		r.randoms = slices.Delete(r.randoms, 0, 1)
	}
	r.randoms = append(r.randoms, short(random))
}

// short is what is kept of a random: its last bytes, for the first may be the time
// (RFC 5246 section 7.4.1.2). The next main knows them too.
func short(random [32]byte) uint64 { return binary.BigEndian.Uint64(random[24:]) }

// sweep begins a new window and forgets sessions that are no more.
func (s *hellos) sweep(now time.Time) {
	if now.Sub(s.window) < helloWindow {
		return
	}
	s.window = now
	clear(s.hosts)
	maps.DeleteFunc(s.apps, func(id appID, _ *helloRecord) bool { return !s.live(id[:]) })
}

// hostOf is a source as far as bounds go: an IPv4 address or an IPv6 /64.
func hostOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}
