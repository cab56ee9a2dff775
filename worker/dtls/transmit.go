package dtls

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// fault is what is known of errors while a batch is being sent.
type fault struct {
	errno   unix.Errno // of a send that is being tried once more; 0: none
	singly  bool       // send without UDP_SEGMENT
	suspect bool       // because UDP_SEGMENT may be what failed
}

// vector is the memory of one sendmmsg: a message per run.
type vector struct {
	msgs []mmsghdr
	iovs []unix.Iovec
	ctls []control
}

// control is the control message that cuts a message into datagrams.
type control struct {
	header  unix.Cmsghdr
	segment uint16
}

// fill describes runs, as many as there is room for. Singly, each of their
// records becomes a message of its own.
func (v *vector) fill(buf []byte, runs []run, singly bool) []mmsghdr {
	v.size(len(runs), singly)
	m := 0
	for _, r := range runs {
		for off := r.off; off < r.end && m < len(v.msgs); m++ {
			size := r.end - off
			if singly {
				size = min(size, r.seg)
			}
			v.set(m, buf[off:off+size], r.seg)
			off += size
		}
	}
	return v.msgs[:m]
}

// size makes room for so many runs, or records.
func (v *vector) size(n int, singly bool) {
	switch {
	case len(v.msgs) == maxRuns:
		return
	case n > smallRuns || singly:
		n = maxRuns
	case len(v.msgs) == smallRuns:
		return
	default:
		n = smallRuns
	}
	v.msgs, v.iovs, v.ctls = make([]mmsghdr, n), make([]unix.Iovec, n), make([]control, n)
	for i := range v.ctls {
		h := &v.ctls[i].header
		h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(int(unsafe.Sizeof(v.ctls[i].segment))))
		v.msgs[i].Iov = &v.iovs[i]
		v.msgs[i].SetIovlen(1)
	}
}

// set describes one message, of several datagrams if it is longer than seg.
func (v *vector) set(i int, p []byte, seg int) {
	v.iovs[i].Base = &p[0]
	v.iovs[i].SetLen(len(p))
	m := &v.msgs[i]
	m.Control = nil
	m.SetControllen(0)
	if len(p) > seg {
		v.ctls[i].segment = uint16(seg)
		m.Control = (*byte)(unsafe.Pointer(&v.ctls[i]))
		m.SetControllen(int(unsafe.Sizeof(v.ctls[i])))
	}
}

// segments is how many records of seg bytes, the last one perhaps shorter, are
// in n bytes.
func segments(n, seg int) int { return (n + seg - 1) / seg }

// sendRuns sends until all is gone; it returns false to be called again when
// the socket takes more.
func (o *sender) sendRuns(fd uintptr) bool {
	for o.next < len(o.runs) {
		n, errno := sendmmsg(fd, o.vec.fill(o.buf, o.runs[o.next:], o.fault.singly))
		switch errno {
		case 0:
			o.sent(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			o.failed(errno)
		}
	}
	return true
}

// sent notes that the kernel took the first n messages.
func (o *sender) sent(n int) {
	for i := range n {
		o.advance(int(o.vec.iovs[i].Len))
	}
	if o.fault.errno == unix.EMSGSIZE { // it was an earlier packet's, told by a router
		o.c.reportTooBig(0)
	}
	o.fault.errno = 0
	if o.fault.suspect {
		o.fault.suspect = false
		o.noSegment = true
		o.c.cfg.Log.Info("dtls: no UDP_SEGMENT here, sending is slower")
	}
}

// advance takes size bytes off the first run.
func (o *sender) advance(size int) {
	r := &o.runs[o.next]
	r.off += size
	if r.off == r.end {
		o.next++
	}
}

// failed decides what an error of the first message means. None of them is the
// channel's end: routes and clients come back.
func (o *sender) failed(errno unix.Errno) {
	if o.fault.errno == 0 { // it may be about an earlier packet: asking took it away
		o.fault.errno = errno
		return
	}
	o.fault.errno = 0
	r := &o.runs[o.next]
	if !o.fault.singly && r.end-r.off > r.seg {
		switch errno {
		case unix.EIO, unix.EINVAL, unix.ENOPROTOOPT:
			// The device cannot checksum, the kernel knows no UDP_SEGMENT, or, as
			// older kernels put it, a segment is longer than the MTU: see whether
			// the records go one by one.
			o.fault.singly, o.fault.suspect = true, true
			return
		case unix.EMSGSIZE: // the last record may be short enough
			o.fault.singly = true
			return
		}
	}
	n := min(r.seg, r.end-r.off)
	if !o.fault.singly {
		n = r.end - r.off
	}
	if errno == unix.EMSGSIZE {
		o.fault.suspect = false // UDP_SEGMENT was not to blame
		o.c.reportTooBig(n - o.overhead)
	} else {
		o.c.count.txErrors.Add(uint64(segments(n, r.seg)))
	}
	o.advance(n)
}
