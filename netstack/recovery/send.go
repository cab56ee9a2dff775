package recovery

const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	_
	flagACK
)

// Verdict says what is to be done with a segment of the stack.
type Verdict int

const (
	Send Verdict = iota // it is no concern of ours
	Kept                // send it; its Owner is released later
	Held                // do not send it: it has been, and is in our care
	Late                // an acknowledgement that may wait: what follows it may say it as well
)

// Sent takes note of a segment the stack wants to send, before it is sent.
func (p *Path) Sent(s Segment) Verdict {
	t := s.Head[s.TCP:]
	flags := t[13]
	addrs := s.Head[12:20]
	if s.Head[0]>>4 == 6 {
		addrs = s.Head[8:40]
	}
	name := FlowOf(addrs, t, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.find(&name)
	if f == nil {
		return Send
	}
	late := f.reply.hear(t, s.Size == 0 && flags == flagACK)
	seq := be32(t[4:])
	switch {
	case flags&flagRST != 0:
		p.letGo(f)
		return Send
	case flags&flagSYN != 0:
		f.begin(seq + 1)
		return Send
	}
	size := uint32(s.Size)
	if flags&flagFIN != 0 {
		size++
	}
	switch {
	case size == 0 && late:
		return Late
	case size == 0:
		return Send
	}
	verdict := p.judge(f, s, seq, size)
	if end := seq + size; before(f.nxt, end) {
		f.nxt = end
		f.fed()
	}
	return verdict
}

// begin takes note of the flow's SYN; its data begins at seq.
func (f *flow) begin(seq uint32) {
	f.first, f.given = seq, seq
	f.una, f.nxt = seq, seq
	if f.state == opening {
		f.state, f.mss = managed, 1
	}
}

// judge decides on size bytes of sequence space from seq on.
func (p *Path) judge(f *flow, s Segment, seq, size uint32) Verdict {
	if f.state != managed {
		return Send
	}
	if end := seq + size; seq != f.nxt {
		if !before(f.una, end) {
			if size > 1 { // the client has all of it
				p.stats.Held++
				return Held
			}
			return Send // a probe of the client's window, or of its life
		}
		if before(seq, f.nxt) && !before(f.nxt, end) {
			p.stats.Held++
			return Held
		}
		p.giveBack(f)
		return Send
	}
	if len(f.sent)+1+s.Size/(max(s.MSS, 1)*maxPackets) > maxRecords {
		p.giveBack(f)
		return Send
	}
	p.keep(f, s, seq, size)
	return Kept
}

// giveBack leaves a flow to the stack that cannot be cared for.
func (p *Path) giveBack(f *flow) {
	p.stats.Given++
	p.letGo(f)
}

// keep makes the records of a segment.
func (p *Path) keep(f *flow, s Segment, seq, size uint32) {
	now := p.now()
	mss := uint32(s.MSS)
	if mss == 0 || s.Size <= s.MSS {
		mss = size
	}
	h := p.hold(s)
	f.mss = max(f.mss, mss)
	smp := p.model.sent(now, int64(size))
	f.pipe += int64(size)
	for first := 0; size > 0; first += maxPackets {
		n := min((size+mss-1)/mss, maxPackets)
		length := min(n*mss, size)
		r := p.newRecord(h)
		r.first, r.n, r.seq, r.end, r.mss = first, int(n), seq, seq+length, mss
		r.sentAt, r.sample = now, smp
		f.sent = append(f.sent, r)
		seq += length
		size -= length
	}
	if !f.busy {
		p.setBusy(f)
		p.setDeadline(f, now)
	}
}
