package dtlsrecord

// WindowSize is how many sequence numbers behind the newest an Opener still
// accepts. RFC 6347 section 4.1.2.6 recommends 64; a path that reorders bursts
// of a fast link needs more.
const WindowSize = 1024

const (
	wordBits  = 64
	ringWords = 32 // a power of two; more than WindowSize/wordBits + 1
)

// window remembers which sequence numbers were seen. bits is a ring of the
// newest numbers; the ring is longer than the window, so that sliding clears
// whole words and shifts nothing (the idea of RFC 6479).
type window struct {
	top  uint64 // one more than the newest number seen; 0: none
	bits [ringWords]uint64
}

// fresh says whether seq may be accepted.
func (w *window) fresh(seq uint64) bool {
	if seq >= w.top {
		return true
	}
	if w.top-seq > WindowSize {
		return false
	}
	return w.bits[seq/wordBits%ringWords]&(1<<(seq%wordBits)) == 0
}

// mark remembers seq, which was fresh.
func (w *window) mark(seq uint64) {
	if seq >= w.top {
		w.slide(seq)
	}
	w.bits[seq/wordBits%ringWords] |= 1 << (seq % wordBits)
}

// slide makes seq the newest and clears the words that come into use.
func (w *window) slide(seq uint64) {
	if w.top > 0 {
		first, last := (w.top-1)/wordBits+1, seq/wordBits
		if last >= first+ringWords {
			first = last - ringWords + 1
		}
		for ; first <= last; first++ {
			w.bits[first%ringWords] = 0
		}
	}
	w.top = seq + 1
}
