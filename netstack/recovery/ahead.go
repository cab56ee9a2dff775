package recovery

// lead is how many bytes of a flow the stack may hold that it has not sent yet,
// before its source is told to wait: what keeps the way to the client busy until
// the source has noticed that there is room. It is 8 ms of a Gbit/s.
const lead = 1 << 20

// Ahead says whether the stack was given so much of a flow, written bytes in all,
// that it should get no more before some of it has been sent. If so, wake is called
// once half of that has been, or the flow is forgotten. It must not wait.
//
// The stack itself would take as much as its send buffer holds, and when that is
// full nothing until half of it is empty. What is acknowledged late for a hole
// fills the buffer as well, and so the way would idle again and again unless the
// buffer were several times what it holds. By what has not been sent the source
// follows the way, and little waits here: TCP_NOTSENT_LOWAT is the same in Linux.
func (p *Path) Ahead(name Flow, written uint32, wake func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.find(&name)
	if f == nil || !f.reply.said {
		return false
	}
	f.given = f.first + written
	if f.unsent() < lead {
		return false
	}
	f.wake = wake
	return true
}

// unsent is how much of what the stack was given it has not sent. What it was
// given since the last Ahead does not count, so it may be negative.
func (f *flow) unsent() int32 { return int32(f.given - f.nxt) }

// fed wakes the source of a flow when the stack has little left to send.
func (f *flow) fed() {
	if f.wake != nil && f.unsent() <= lead/2 {
		f.awake()
	}
}

func (f *flow) awake() {
	if wake := f.wake; wake != nil {
		f.wake = nil
		wake()
	}
}
