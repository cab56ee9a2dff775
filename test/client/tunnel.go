package client

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"rocserv/internal/packet"
	"rocserv/internal/wire"
	"rocserv/worker/cstp"
)

// Tunnel is an open tunnel. It is a packet.Sink for what the client sends.
type Tunnel struct {
	Addr4, Addr6 netip.Addr // the lease
	MTU          int
	Cookie       string

	// What came and went.
	RxPackets, RxBytes, TxPackets, TxBytes atomic.Int64

	w       *web
	cstp    *cstp.Channel
	dtls    *datagrams // nil: CSTP only
	receive func(pkts [][]byte)
	done    chan struct{} // closed when CSTP has ended
	err     error         // why; after done
	readers sync.WaitGroup
	mu      sync.Mutex // held from Begin to End
}

var _ packet.Sink = (*Tunnel)(nil)

func newTunnel(w *web, o *offer, c Config) *Tunnel {
	return &Tunnel{
		Addr4: o.addr4, Addr6: o.addr6, MTU: o.mtu, Cookie: c.Cookie,
		w: w, cstp: cstp.New(w.tls, w.raw), receive: c.Receive, done: make(chan struct{}),
	}
}

func (t *Tunnel) start() {
	t.readers.Go(func() {
		t.err = t.cstp.Serve(fromCSTP{t})
		close(t.done)
	})
	if t.dtls == nil {
		return
	}
	t.readers.Go(t.readDTLS)
	// The server sends by DTLS once it has heard us there.
	t.send(wire.DPDReq, nil)
}

// Begin implements packet.Sink.
func (t *Tunnel) Begin() { t.mu.Lock() }

// Next implements packet.Sink.
func (t *Tunnel) Next(n int) []byte {
	if t.dtls != nil {
		return t.dtls.Next(n)
	}
	return t.cstp.Next(n)
}

// Add implements packet.Sink.
func (t *Tunnel) Add(n int) {
	t.TxPackets.Add(1)
	t.TxBytes.Add(int64(n))
	t.add(wire.Data, n)
}

func (t *Tunnel) add(typ wire.PacketType, n int) {
	if t.dtls != nil {
		t.dtls.Add(typ, n)
	} else {
		t.cstp.Add(typ, n)
	}
}

// End implements packet.Sink.
func (t *Tunnel) End() {
	if t.dtls != nil {
		t.dtls.Flush()
	} else {
		t.cstp.Flush()
	}
	t.mu.Unlock()
}

func (t *Tunnel) send(typ wire.PacketType, payload []byte) {
	t.Begin()
	copy(t.Next(len(payload)), payload)
	t.add(typ, len(payload))
	t.End()
}

// fromCSTP receives what the CSTP channel reads.
type fromCSTP struct{ t *Tunnel }

func (r fromCSTP) Packets(pkts []wire.Packet) {
	var data [][]byte
	for _, p := range pkts {
		switch p.Type {
		case wire.Data:
			data = append(data, p.Payload)
		case wire.DPDReq:
			if r.t.dtls == nil {
				r.t.send(wire.DPDResp, nil)
			}
		}
	}
	r.t.took(data)
}

func (t *Tunnel) readDTLS() {
	var data [][]byte
	for {
		data = data[:0]
		err := t.dtls.receive(func(typ wire.PacketType, payload []byte) {
			switch typ {
			case wire.Data:
				data = append(data, payload)
			case wire.DPDReq:
				t.send(wire.DPDResp, payload)
			}
		})
		if err != nil {
			return
		}
		t.took(data)
	}
}

// took counts packets and passes them on.
func (t *Tunnel) took(data [][]byte) {
	if len(data) == 0 {
		return
	}
	n := 0
	for _, p := range data {
		n += len(p)
	}
	t.RxPackets.Add(int64(len(data)))
	t.RxBytes.Add(int64(n))
	if t.receive != nil {
		t.receive(data)
	}
}

// Done is closed when the server or Close has ended the tunnel.
func (t *Tunnel) Done() <-chan struct{} { return t.done }

// Close says goodbye and ends the tunnel.
func (t *Tunnel) Close() {
	t.mu.Lock()
	bye := wire.AppendDisconnect(nil, "load is done")
	copy(t.cstp.Next(len(bye)), bye)
	t.cstp.Add(wire.Disconnect, len(bye))
	t.cstp.Flush()
	t.mu.Unlock()
	t.cstp.Close()
	if t.dtls != nil {
		t.dtls.close()
	}
	t.readers.Wait()
}
