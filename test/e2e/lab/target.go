package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Ports of the services in tgt, each on every address, IPv4 and IPv6.
const (
	PortHTTP    = 80   // see httpMux
	PortEcho    = 7    // TCP and UDP: sends back what it gets
	PortCount   = 9001 // TCP: reads to the end, then answers "N bytes" and ends
	PortReset   = 9002 // TCP: resets at the first byte
	PortClosed  = 9003 // nobody listens
	PortDNS     = 53   // UDP and TCP, see records
	PortWitness = 9009 // TCP and UDP: says in its log who came, answers nothing
)

// Names that tgt's DNS knows.
const (
	NameTgt  = "tgt.test."  // A and AAAA
	NameBig  = "big.test."  // TXT, longer than a datagram
	NameNone = "none.test." // does not exist

	// NameTurning is Tgt4 in the first answer about each name below it, and the
	// cloud's metadata service in all others, with no time to live.
	NameTurning = "turning.test."

	// NameNAT64 is where a network tells of its NAT64, RFC 7050: AAAA, made with
	// the well-known prefix.
	NameNAT64 = "ipv4only.arpa."
)

const bigRecords = 20

// StartTarget starts the services in a namespace and waits until they are up.
func StartTarget(n Netns) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := n.Start("services in "+n.Name, nil, []string{roleVariable + "=" + roleTarget}, self)
	if err != nil {
		return nil, err
	}
	if _, err := p.Expect("^serving$", 10*time.Second); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.Story())
	}
	return p, nil
}

// serveTarget is the role.
func serveTarget(out io.Writer) error {
	log := &witness{out: out}
	failed := make(chan error, 1)
	serve := func(run func() error) {
		go func() { failed <- run() }()
	}
	for port, conn := range map[int]func(*net.TCPConn){
		PortEcho: echoConn, PortCount: countConn, PortReset: resetConn, PortWitness: log.conn,
	} {
		ln, err := net.Listen("tcp", addrOf(port))
		if err != nil {
			return err
		}
		serve(func() error { return acceptAll(ln, conn) })
	}
	for port, datagram := range map[int]func(net.PacketConn, []byte, net.Addr){
		PortEcho: echoDatagram, PortWitness: log.datagram,
	} {
		pc, err := net.ListenPacket("udp", addrOf(port))
		if err != nil {
			return err
		}
		serve(func() error { return readAll(pc, datagram) })
	}
	web, err := net.Listen("tcp", addrOf(PortHTTP))
	if err != nil {
		return err
	}
	mux := httpMux(log)
	serve(func() error { return http.Serve(web, mux) })
	if err := startQUIC(serve, mux); err != nil {
		return err
	}
	if err := startDNS(serve); err != nil {
		return err
	}
	log.print("serving")
	return <-failed
}

func addrOf(port int) string { return ":" + strconv.Itoa(port) }

func acceptAll(ln net.Listener, conn func(*net.TCPConn)) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			conn(c.(*net.TCPConn))
		}()
	}
}

// echoConn does not use io.Copy, whose splice would keep what it has of a
// reset connection.
func echoConn(c *net.TCPConn) {
	b := make([]byte, blockSize)
	for {
		n, err := c.Read(b)
		if _, werr := c.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

func countConn(c *net.TCPConn) {
	n, err := io.Copy(io.Discard, c)
	if err == nil {
		fmt.Fprintf(c, "%d bytes\n", n)
	}
}

func resetConn(c *net.TCPConn) {
	c.Read(make([]byte, 1))
	c.SetLinger(0)
}

func readAll(pc net.PacketConn, datagram func(net.PacketConn, []byte, net.Addr)) error {
	b := make([]byte, 1<<16)
	for {
		n, from, err := pc.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err == nil { // else an ICMP error about an earlier one
			datagram(pc, b[:n], from)
		}
	}
}

func echoDatagram(pc net.PacketConn, b []byte, from net.Addr) { pc.WriteTo(b, from) }

// witness writes down what happens.
type witness struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *witness) print(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.out, format+"\n", args...)
}

func (w *witness) conn(c *net.TCPConn) {
	w.print("seen tcp from %v at %v", c.RemoteAddr(), c.LocalAddr())
}

func (w *witness) datagram(pc net.PacketConn, _ []byte, from net.Addr) {
	w.print("seen udp from %v at %v", from, pc.LocalAddr())
}

// startDNS serves the names above, by UDP and TCP.
func startDNS(serve func(func() error)) error {
	pc, err := net.ListenPacket("udp", addrOf(PortDNS))
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addrOf(PortDNS))
	if err != nil {
		return err
	}
	handler := dns.HandlerFunc(answerDNS)
	serve((&dns.Server{PacketConn: pc, Handler: handler}).ActivateAndServe)
	serve((&dns.Server{Listener: ln, Handler: handler}).ActivateAndServe)
	return nil
}

func answerDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	size := dns.MaxMsgSize
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size = dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
	}
	if len(q.Question) == 1 {
		m.Answer, m.Rcode = records(q.Question[0])
		if name := strings.ToLower(q.Question[0].Name); strings.HasSuffix(name, "."+NameTurning) {
			m.Answer, m.Rcode = turning(name, q.Question[0].Qtype), dns.RcodeSuccess
		}
	}
	m.Truncate(size)
	w.WriteMsg(m)
}

var turned sync.Map // names that were asked for

func turning(name string, qtype uint16) []dns.RR {
	if qtype != dns.TypeA {
		return nil
	}
	to := Tgt4
	if _, again := turned.LoadOrStore(name, true); again {
		to = Metadata4
	}
	return []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET}, A: net.ParseIP(to)}}
}

func records(q dns.Question) ([]dns.RR, int) {
	head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
	switch name := strings.ToLower(q.Name); {
	case name == NameTgt && q.Qtype == dns.TypeA:
		return []dns.RR{&dns.A{Hdr: head, A: net.ParseIP(Tgt4)}}, dns.RcodeSuccess
	case name == NameTgt && q.Qtype == dns.TypeAAAA:
		return []dns.RR{&dns.AAAA{Hdr: head, AAAA: net.ParseIP(Tgt6)}}, dns.RcodeSuccess
	case name == NameNAT64 && q.Qtype == dns.TypeAAAA:
		return []dns.RR{&dns.AAAA{Hdr: head, AAAA: net.ParseIP("64:ff9b::192.0.0.170")}}, dns.RcodeSuccess
	case name == NameBehind && q.Qtype == dns.TypeA:
		return []dns.RR{&dns.A{Hdr: head, A: net.ParseIP(Behind4)}}, dns.RcodeSuccess
	case name == NameBehind && q.Qtype == dns.TypeAAAA:
		return []dns.RR{&dns.AAAA{Hdr: head, AAAA: net.ParseIP(Behind6)}}, dns.RcodeSuccess
	case name == NameProxy && q.Qtype == dns.TypeA:
		return []dns.RR{&dns.A{Hdr: head, A: net.ParseIP(Tgt4)}}, dns.RcodeSuccess
	case name == NameBig && q.Qtype == dns.TypeTXT:
		var rrs []dns.RR
		for i := range bigRecords {
			rrs = append(rrs, &dns.TXT{Hdr: head, Txt: []string{fmt.Sprintf("%03d %s", i, strings.Repeat("x", 200))}})
		}
		return rrs, dns.RcodeSuccess
	case name == NameTgt, name == NameBig, name == NameBehind, name == NameProxy:
		return nil, dns.RcodeSuccess
	}
	return nil, dns.RcodeNameError
}
