package nat

import "time"

// Limits bound a Table. A zero field has the default that its comment names.
type Limits struct {
	UDP          int // mappings, 512
	Echo         int // mappings, 64
	NewPerSecond int // mappings made in a second, and at once: 500
	// Peers bounds the addresses remembered beyond two for each mapping, for
	// the table as a whole: 8192.
	Peers    int
	Timeouts Timeouts
}

// Timeouts are how long a mapping of a class lives after its last refreshment.
type Timeouts struct {
	OneShot  time.Duration // 17 s: longer than a resolver waits
	Answered time.Duration // 2 s: for the second of two answers
	OneWay   time.Duration // 2 min, RFC 4787 REQ-5
	TwoWay   time.Duration // 5 min, RFC 4787 REQ-5c
	Echo     time.Duration // 1 min, RFC 5508 REQ-2
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.UDP, 512)
	setDefault(&l.Echo, 64)
	setDefault(&l.NewPerSecond, 500)
	setDefault(&l.Peers, 8192)
	setDefault(&l.Timeouts.OneShot, 17*time.Second)
	setDefault(&l.Timeouts.Answered, 2*time.Second)
	setDefault(&l.Timeouts.OneWay, 2*time.Minute)
	setDefault(&l.Timeouts.TwoWay, 5*time.Minute)
	setDefault(&l.Timeouts.Echo, time.Minute)
	return l
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Stats count what a Table did.
type Stats struct {
	UDP, Echo   int    // mappings now
	Ports       int    // local ports that UDP may use; 0 without LimitPorts
	Created     uint64 // mappings
	Expired     uint64
	Evicted     uint64 // to keep UDP or Echo, or by Evict
	RateLimited uint64 // refused by NewPerSecond
	OutOfPorts  uint64 // mappings that others went for, or that were not made, because of LimitPorts
	Filtered    uint64 // packets from somebody the client did not speak to
	Forgotten   uint64 // addresses, to keep Peers
}

// Bucket limits how often something happens: so many times a second, and no
// more than that at once. It keeps one time: when what was granted so far will
// be paid for.
type Bucket struct {
	paid time.Duration
}

// Take says whether one more is granted at now, a duration since any fixed
// moment, with perSecond granted in a second.
func (b *Bucket) Take(now time.Duration, perSecond int) bool {
	b.paid = max(b.paid, now)
	if perSecond <= 0 || b.paid+time.Second/time.Duration(perSecond) > now+time.Second {
		return false
	}
	b.paid += time.Second / time.Duration(perSecond)
	return true
}
