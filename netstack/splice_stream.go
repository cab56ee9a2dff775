package netstack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
)

// A stream without a descriptor (TLS to a proxy, the gateway's resolver) can
// only be read and written by calls that wait. So bytes go through a buffer:
// up has one while there are bytes, down keeps a small one while it waits.

// drainToStream is drain for streams.
func (f *flow) drainToStream() error {
	for {
		if !f.stack.cfg.Up.Wait(f.stack.ctx.Done()) {
			return errClosed
		}
		if more, err := f.stepToStream(); err != nil || !more {
			return err
		}
	}
}

// stepToStream moves what one read gives; it has the turn of the limiter. False:
// the endpoint is empty.
func (f *flow) stepToStream() (more bool, err error) {
	limit := f.stack.cfg.Up
	buf := f.stack.buffers.get(true)
	defer f.stack.buffers.put(buf)
	w := filler{b: (*buf)[:0:limit.Quantum(len(*buf))]}
	res, terr := f.ep.Read(&w, tcpip.ReadOptions{})
	limit.Done(res.Count)
	if res.Count > 0 {
		f.movedUp(res.Count)
		_, err := f.conn.Write(w.b)
		return true, err
	}
	if _, ok := terr.(*tcpip.ErrWouldBlock); ok {
		return false, nil
	}
	return false, f.readEnded()
}

// filler is an io.Writer that takes as much as its slice has capacity for.
type filler struct{ b []byte }

func (w *filler) Write(p []byte) (int, error) {
	n := min(len(p), cap(w.b)-len(w.b))
	w.b = append(w.b, p[:n]...)
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// fromStream moves bytes down until the host's end (io.EOF) or something
// broke.
func (d *feed) fromStream() error {
	var pace pace
	limit := d.stack.cfg.Down
	for {
		for d.full() {
			<-d.ready
		}
		buf := d.stack.buffers.get(pace.bulk() && limit == nil) // small ones where many may wait
		n, err := d.conn.Read((*buf)[:d.stack.readSize(d.flow, len(*buf))])
		if n > 0 {
			pace.read(d.flow, n)
			d.half.moved(d.stack) // before the client can know of them
			p := payload{b: (*buf)[:n]}
			if serr := d.sendShaped(&p); serr != nil {
				err = serr
			}
		}
		d.stack.buffers.put(buf)
		if err != nil {
			return err
		}
	}
}

// sendShaped is send, once the rate allows it.
func (d *feed) sendShaped(p *payload) error {
	limit := d.stack.cfg.Down
	if !limit.Wait(d.stack.ctx.Done()) {
		return errClosed
	}
	limit.Done(len(p.b))
	return d.send(p)
}
