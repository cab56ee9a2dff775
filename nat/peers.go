package nat

import "net/netip"

// peer is an address that a mapping has sent to.
type peer struct {
	serial uint64 // of the mapping
	addr   netip.Addr
}

// peerSet remembers peers in two generations, at most max in each. The serials
// of dead mappings leave with their generation.
type peerSet struct {
	young, old map[peer]struct{}
	max        int
}

func (s *peerSet) has(p peer) bool {
	if _, ok := s.young[p]; ok {
		return true
	}
	_, ok := s.old[p]
	return ok
}

// add remembers p and returns how many others were forgotten for it.
func (s *peerSet) add(p peer) (forgotten int) {
	if _, ok := s.young[p]; ok {
		return 0
	}
	if len(s.young) >= s.max {
		forgotten = len(s.old)
		s.turn()
	}
	if s.young == nil {
		s.young = make(map[peer]struct{})
	}
	s.young[p] = struct{}{}
	return forgotten
}

// turn makes the young generation the old one. Maps are not reused: a table
// that has become quiet holds none.
func (s *peerSet) turn() { s.old, s.young = s.young, nil }
