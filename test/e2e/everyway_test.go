//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"rocserv/test/e2e/lab"
)

// Where the way "direct" of the table leaves.
const source4, source6 = "10.77.9.3", "fd77:9::3"

// outWay is a way out, the two addresses that are reached by it, and what leaves
// the host then.
type outWay struct {
	proxied
	to4, to6 string
	passes   func(lab.Packet) bool
}

func everyWay() []outWay {
	const tcp, udp = 6, 17
	is := func(a netip.Addr, one, other string) bool {
		return a == netip.MustParseAddr(one) || a == netip.MustParseAddr(other)
	}
	to := func(port int) func(lab.Packet) bool {
		return func(p lab.Packet) bool {
			return p.Proto == tcp && p.Dst == netip.MustParseAddrPort(fmt.Sprint(proxyAddress, port))
		}
	}
	list := proxies()
	dante, microsocks, squid, tinyproxy := list[0], list[1], list[2], list[4]
	direct := proxied{name: "direct", url: "direct", with: " source=" + source4 + "," + source6 + " interface=eth0", udp: true}
	nghttpx := proxied{name: "nghttpx, HTTP/2", ports: []int{lab.PortSquid, lab.PortNghttpx}, url: "https://" + proxyAddress + "8443", with: " ca=CA"}
	return []outWay{
		{direct, lab.Tgt4, lab.Tgt6, func(p lab.Packet) bool { return is(p.Src.Addr(), source4, source6) }},
		{dante, lab.Behind4, lab.Behind6, func(p lab.Packet) bool { // which relays each version of IP by its own
			return to(lab.PortDante)(p) || p.Proto == udp && is(p.Dst.Addr(), lab.Tgt4, lab.Tgt6) && p.Dst.Port() >= 1024
		}},
		{microsocks, lab.Behind4, lab.Behind6, to(lab.PortMicrosocks)},
		{squid, lab.Behind4, lab.Behind6, to(lab.PortSquid)},
		{tinyproxy, lab.Behind4, lab.Behind6, to(lab.PortTinyproxy)},
		{nghttpx, lab.Behind4, lab.Behind6, to(lab.PortNghttpx)},
	}
}

// By every way: TCP, UDP and DNS, over both versions of IP, are carried or
// refused as they should be, the gateway resolver's questions too, and a packet
// socket on all of the host's devices sees nothing leave by another way.
func TestEveryWay(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	for _, tt := range everyWay() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newProxyRig(t, tt.proxied, "egress-via = p", "dns =", "resolver-via = p",
				"resolver = "+tt.to4, "resolver = "+tt.to6+" for behind.test")
			r.must(r.Srv.IP("addr add "+source4+"/24 dev eth0", "addr add "+source6+"/64 dev eth0 preferred_lft 0"))
			sum, err := r.StartServers(4 << 20)
			if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
				t.Skip(err)
			}
			r.must(err)
			stop, err := r.Tap()
			r.must(err)
			c := r.connect(lab.Dial{})
			r.each(c, tt.carries(tt.to4, tt.to4, prohibited4, sum)...)
			r.each(c, tt.carries(tt.to6, "["+tt.to6+"]", prohibited6, sum)...)
			r.each(c,
				command("the gateway's resolver, over IPv4", `\s10\.77\.9\.2\s`, asking(lab.Gateway4, lab.NameTgt, "A")...),
				command("the gateway's resolver, over IPv6", `\s203\.0\.113\.1\s`, asking(lab.Gateway4, lab.NameBehind, "A")...))
			seen, err := stop()
			r.must(err)
			for _, p := range seen {
				if !tt.passes(p) {
					t.Errorf("by another way: %v", p)
				}
			}
			if len(seen) < 20 {
				t.Errorf("only %d packets were seen", len(seen))
			}
			// What goes another way is seen.
			stop, err = r.Tap()
			r.must(err)
			_, err = r.Srv.Run("nc", "-n", "-z", "-w", "3", lab.Tgt6, fmt.Sprint(lab.PortHTTP))
			r.must(err)
			if seen, err = stop(); err != nil || len(seen) == 0 || tt.passes(seen[0]) {
				t.Errorf("of a connection past the way %v was seen, %v", seen, err)
			}
		})
	}
}

// A name whose answer turns to a forbidden address leads there by no way, also
// where a rule allows the name, and from where it led before nothing is taken.
func TestNameTurns(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	t.Parallel()
	p := proxies()[0]
	p.ports = []int{lab.PortSquid, lab.PortDante}
	r := newProxyRig(t, p, "egress = web http://"+lab.Tgt4+":3128", "dns =", "resolver = "+lab.Tgt4, "egress-allow = *.turning.test",
		"egress-via = p for socks.turning.test", "egress-via = web for http.turning.test")
	c := r.connect(lab.Dial{})
	for _, name := range []string{"socks.turning.test", "http.turning.test", "direct.turning.test"} {
		fetch := func(addr string) []string {
			return []string{"curl", "-sS", "-m", "10", "--resolve", name + ":80:" + addr, "http://" + name + "/"}
		}
		r.each(c,
			command(name+" at first", `\s10\.77\.9\.2\s`, asking(lab.Gateway4, name, "A")...),
			command(name+" by it", lab.Hello, fetch(lab.Tgt4)...),
			command(name+" then", `\s169\.254\.169\.254\s`, asking(lab.Gateway4, name, "A")...),
			command(name+" by that", "fails:", fetch(lab.Metadata4)...),
			command(name+" by the first again", lab.Hello, fetch(lab.Tgt4)...))
	}
	q := lab.Injection{Device: c.Device}
	for _, proto := range []string{"tcp", "udp", "icmp"} {
		q.Packets = append(q.Packets, lab.Injected{Proto: proto, Dst: lab.Metadata4, Port: lab.PortWitness})
	}
	got, err := lab.Inject(c.From, q)
	r.must(err)
	for i, what := range got {
		if what != prohibited4 {
			t.Errorf("%s to the forbidden address: %s, not %s", q.Packets[i].Proto, what, prohibited4)
		}
	}
	if r.tgt.Has("^seen") {
		t.Errorf("the forbidden address was reached:\n%s", r.tgt.Story())
	}
}

// carries are TCP, UDP and DNS to an address, which the way carries or refuses.
// sum is that of nginx' file.
func (w outWay) carries(to, host, refused, sum string) []check {
	iperf := func(args ...string) []string {
		return append([]string{"iperf3", "-c", to, "-p", strconv.Itoa(lab.PortIperf3)}, args...)
	}
	checks := []check{
		command("TCP to "+to, lab.Hello, web(host)...),
		command("nginx at "+to, sum, "sh", "-c", fmt.Sprintf("curl -sSg -m 20 http://%s:%d/file | sha256sum", host, lab.PortNginx)),
		// What the proxy still holds when the client has sent all is not counted.
		command("iperf3 up to "+to, `(?s)4\.\d\d MBytes.*sender.*[1-9][.\d]* [KM]Bytes.*receiver`, iperf("-n", "4M")...),
		command("iperf3 down from "+to, `(?s)4\.\d\d MBytes.*receiver`, iperf("-n", "4M", "-R")...),
		command("DNS by TCP to "+to, `\s10\.77\.9\.2\s`, asking(to, lab.NameTgt, "A", "+tcp")...),
	}
	if w.udp {
		return append(checks,
			check{"UDP to " + to, echoing(to, 0, 1, 1200)},
			command("iperf3 by UDP to "+to, `\(0%\)  receiver`, iperf("-u", "-n", "500K", "-b", "4M", "-l", "1000")...),
			command("DNS by UDP to "+to, `\s10\.77\.9\.2\s`, asking(to, lab.NameTgt, "A")...))
	}
	return append(checks, check{"UDP and DNS are refused by " + to, func(r *rig, c *lab.Client) (err error) {
		var got []string
		for range 2 { // the first may find out that the proxy relays none
			got, err = lab.Inject(c.From, lab.Injection{Device: c.Device, Packets: []lab.Injected{
				{Proto: "udp", Dst: to, Port: lab.PortEcho}, {Proto: "udp", Dst: to, Port: lab.PortDNS}}})
			if err != nil || got[0] == refused && got[1] == refused {
				return err
			}
		}
		return fmt.Errorf("%s, not %s", got, refused)
	}})
}
