package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rocserv/internal/packet"
)

// Mode is what a load does with its tunnels.
type Mode string

// The modes.
const (
	Hold Mode = "hold" // nothing; at the end each bounces a datagram
	Up   Mode = "up"   // TCP flows to Load.Target, which reads
	Down Mode = "down" // TCP flows from Load.Target, which writes
	Echo Mode = "echo" // datagrams to Load.Target, which sends them back
)

// Load is what to do.
type Load struct {
	Server         string // HOST:PORT
	User, Password string
	DTLS           bool
	Tunnels        int
	AtOnce         int // logins under way at the same time
	Mode           Mode
	Target         string  // ADDR:PORT, IPv4, reached through the tunnels
	Flows          int     // of a tunnel, for Up, Down and Echo
	Size           int     // of a datagram's payload, for Echo
	Rate           int     // datagrams a second of all tunnels together, for Echo
	Seconds        float64 // of the mode, after all tunnels are open
}

// Report is how it went.
type Report struct {
	Opened, Failed int
	FirstError     string
	OpenSeconds    float64 // for all of them
	OpenP50Ms      float64 // for one, from SYN to the tunnel
	OpenP99Ms      float64
	Seconds        float64 // that the mode took
	Bytes          int64   // of payload that TCP flows have moved
	Sent, Back     int64   // datagrams
	Broken         int     // tunnels that ended before they were closed
	Silent         int     // tunnels that did not bounce a datagram at the end
}

// running is a load under way.
type running struct {
	Load
	target  netip.AddrPort
	tunnels []*loaded
	report  Report
	mu      sync.Mutex // protects report and tunnels while they open
}

// loaded is one tunnel of a load.
type loaded struct {
	*Tunnel
	host *Host
	pkts [][]byte     // the datagrams it sends: one of each flow
	next int          // of them
	back atomic.Int64 // how often it came back
}

// bounced counts datagrams that come back: as long as they were sent.
func (l *loaded) bounced(pkts [][]byte) {
	for _, b := range pkts {
		if len(b) == len(l.pkts[0]) {
			l.back.Add(1)
		}
	}
}

// Told is called, where it is not nil, on the way of a load.
type Told struct {
	Ready func(Report) // all tunnels are open
	Done  func(Report) // the mode has ended, the tunnels are still open
}

// Run opens the tunnels, does what is wanted until the time is over or ctx
// ends, and closes them.
func Run(ctx context.Context, l Load, told Told) (Report, error) {
	r := &running{Load: l}
	var err error
	if r.target, err = netip.ParseAddrPort(l.Target); err != nil && l.Mode != Hold {
		return r.report, err
	}
	r.Tunnels, r.AtOnce, r.Flows = max(l.Tunnels, 1), max(l.AtOnce, 1), max(l.Flows, 1)
	r.Size = min(max(l.Size, 1), 1200)
	r.openAll(ctx)
	defer r.closeAll()
	if r.report.Opened == 0 {
		return r.report, errors.New("no tunnel: " + r.report.FirstError)
	}
	if r.Mode == Echo {
		r.begin(ctx)
	}
	if told.Ready != nil {
		told.Ready(r.report)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(l.Seconds*float64(time.Second)))
	defer cancel()
	switch l.Mode {
	case Hold:
		<-ctx.Done()
	case Up, Down:
		err = r.flows(ctx)
	case Echo:
		r.echo(ctx)
	default:
		err = fmt.Errorf("no mode %q", l.Mode)
	}
	r.report.Seconds = time.Since(began).Seconds()
	r.countBroken()
	if r.target.IsValid() && l.Mode == Hold {
		r.bounce()
	}
	if told.Done != nil {
		told.Done(r.report)
	}
	return r.report, err
}

// openLimit is how long one tunnel may take.
const openLimit = 60 * time.Second

func (r *running) openAll(ctx context.Context) {
	began := time.Now()
	var took []float64
	var wg sync.WaitGroup
	turns := make(chan struct{}, r.AtOnce)
	for range r.Tunnels {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			start := time.Now()
			t, err := r.open(ctx)
			r.mu.Lock()
			defer r.mu.Unlock()
			if err != nil {
				if r.report.Failed++; r.report.Failed == 1 {
					r.report.FirstError = err.Error()
				}
				return
			}
			r.tunnels = append(r.tunnels, t)
			took = append(took, float64(time.Since(start))/1e6)
		})
	}
	wg.Wait()
	r.report.Opened = len(r.tunnels)
	r.report.OpenSeconds = time.Since(began).Seconds()
	if slices.Sort(took); len(took) > 0 {
		r.report.OpenP50Ms, r.report.OpenP99Ms = took[len(took)/2], took[len(took)*99/100]
	}
}

func (r *running) open(ctx context.Context) (*loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	c := Config{Server: r.Server, User: r.User, Password: r.Password, DTLS: r.DTLS}
	l := &loaded{pkts: make([][]byte, r.Flows)}
	for i := range l.pkts {
		l.pkts[i] = make([]byte, packet.UDPOffset(false)+r.Size)
	}
	if c.Receive = l.bounced; r.Mode == Up || r.Mode == Down {
		l.host = NewHost()
		c.Receive = l.host.Receive
	}
	var err error
	if l.Tunnel, err = Open(ctx, c); err != nil {
		return nil, err
	}
	if l.host != nil {
		err = l.host.Attach(l.Tunnel)
	} else if r.target.IsValid() {
		for i, b := range l.pkts {
			packet.PutUDP(b, netip.AddrPortFrom(l.Addr4, uint16(firstPort+i)), r.target, 64, 1)
		}
	}
	return l, err
}

// firstPort is the client's port of a tunnel's first flow of datagrams.
const firstPort = 4000

// send sends a tunnel's next n datagrams in one batch, the flows in turns.
func (l *loaded) send(n int) {
	l.Begin()
	for range n {
		b := l.pkts[l.next]
		l.next = (l.next + 1) % len(l.pkts)
		l.Add(copy(l.Next(len(b)), b))
	}
	l.End()
}

// begin sends the first datagram of every flow, at the rate, where tunnels have
// several: what makes a flow is not what it costs afterwards.
func (r *running) begin(ctx context.Context) {
	if r.Flows == 1 || r.Rate == 0 {
		return
	}
	clock := time.NewTicker(time.Second / time.Duration(r.Rate))
	defer clock.Stop()
	for range r.Flows {
		for _, t := range r.tunnels {
			if ctx.Err() != nil {
				return
			}
			t.send(1)
			<-clock.C
		}
	}
	time.Sleep(settleTime)
	for _, t := range r.tunnels {
		t.back.Store(0)
	}
}

// settleTime is for datagrams that are on their way.
const settleTime = 200 * time.Millisecond

func (r *running) closeAll() {
	var wg sync.WaitGroup
	for _, t := range r.tunnels {
		wg.Go(func() {
			t.Close()
			if t.host != nil {
				t.host.Close()
			}
		})
	}
	wg.Wait()
}

// countBroken counts tunnels that ended by themselves.
func (r *running) countBroken() {
	for _, t := range r.tunnels {
		select {
		case <-t.Done():
			r.report.Broken++
		default:
		}
	}
}

// flows runs TCP flows until ctx ends.
func (r *running) flows(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, t := range r.tunnels {
		for range r.Flows {
			wg.Go(func() {
				n, err := r.flow(ctx, t.host)
				r.mu.Lock()
				defer r.mu.Unlock()
				r.report.Bytes += n
				if err != nil && r.report.FirstError == "" {
					r.report.FirstError = err.Error()
				}
			})
		}
	}
	wg.Wait()
	if r.report.Bytes == 0 {
		return fmt.Errorf("no byte was moved: %s", r.report.FirstError)
	}
	return nil
}

func (r *running) flow(ctx context.Context, h *Host) (n int64, err error) {
	conn, err := h.DialTCP(ctx, r.target)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	b := make([]byte, 256<<10)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		var m int
		if r.Mode == Up {
			m, err = conn.Write(b)
		} else {
			m, err = conn.Read(b)
		}
		n += int64(m)
		switch {
		case ctx.Err() != nil:
			return n, nil
		case err != nil && err != io.EOF:
			return n, err
		case err != nil:
			return n, errors.New("the target ended the flow")
		}
	}
}

// echo sends datagrams at the rate, in turns over the tunnels, until ctx ends.
func (r *running) echo(ctx context.Context) {
	const tick = time.Millisecond
	clock := time.NewTicker(tick)
	defer clock.Stop()
	began, next := time.Now(), 0
	for ctx.Err() == nil {
		due := int64(time.Since(began).Seconds() * float64(r.Rate))
		for r.report.Sent < due {
			t := r.tunnels[next]
			next = (next + 1) % len(r.tunnels)
			// As many as are due for this tunnel in one batch.
			n := max(1, min(32, (due-r.report.Sent)/int64(len(r.tunnels))))
			t.send(int(n))
			r.report.Sent += n
		}
		<-clock.C
	}
	time.Sleep(settleTime)
	for _, t := range r.tunnels {
		r.report.Back += t.back.Load()
	}
}

// bounce sends a datagram through every tunnel and counts those that do not
// bring it back.
func (r *running) bounce() {
	for range 3 { // datagrams get lost
		for _, t := range r.tunnels {
			if t.back.Load() == 0 {
				t.send(1)
			}
		}
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if r.report.Silent = r.silent(); r.report.Silent == 0 {
				return
			}
		}
	}
}

func (r *running) silent() (n int) {
	for _, t := range r.tunnels {
		if t.back.Load() == 0 {
			n++
		}
	}
	return n
}
