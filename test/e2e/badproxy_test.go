//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// Ports in tgt where something stands that is no proxy.
const (
	portMute    = 7101 // takes connections and says nothing
	portGarbage = 7102 // says what no proxy says
)

// badProxy is a way that does not work: what the log says of it.
type badProxy struct {
	name, url, log string
}

func badProxies() []badProxy {
	at := func(port int) string { return net.JoinHostPort(lab.Tgt4, strconv.Itoa(port)) }
	who := lab.ProxyUser + ":another.word@"
	list := []badProxy{
		{"password-microsocks", "socks5://" + who + at(lab.PortMicrosocks), "refuses user and password"},
		{"password-squid", "http://" + who + at(lab.PortSquidAuth), "says: 407"},
		{"password-tinyproxy", "http://" + who + at(lab.PortTinyproxy), "says: 401"},
		{"nopassword-microsocks", "socks5://" + at(lab.PortMicrosocks), "wants another way to log in"},
		{"wrongname-nghttpx", "https://" + at(lab.PortNghttpx) + " ca=CA name=other.test", "valid for proxy.test, not other.test"},
	}
	for kind, logs := range map[string][3]string{
		"socks5": {"connection refused", "no answer for 2s", "not speak SOCKS|version"},
		"http":   {"connection refused", "no answer for 2s", "not speak HTTP"},
		"https":  {"connection refused", "no answer for 2s", "TLS"},
	} {
		with := map[string]string{"https": " ca=CA"}[kind]
		list = append(list, badProxy{kind + "-closed", kind + "://" + at(lab.PortClosed) + with, logs[0]},
			badProxy{kind + "-mute", kind + "://" + at(portMute) + with, logs[1]},
			badProxy{kind + "-garbage", kind + "://" + at(portGarbage) + with, logs[2]})
	}
	return list
}

// A proxy that refuses, hangs, talks nonsense, or wants another password is said
// to be down and why; its client is told that there is no way, at once or within
// the way's timeout; a list goes on to the next way; and no descriptor is left.
func TestBadProxies(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	t.Parallel()
	p := proxies()[0]
	p.ports = []int{lab.PortMicrosocks, lab.PortSquidAuth, lab.PortTinyproxy, lab.PortSquid, lab.PortNghttpx, lab.PortDante}
	settings := []string{"dns = 198.51.100.53", "egress-via = p for " + lab.Behind4}
	list := badProxies()
	alone, listed := func(i int) string { return behind(i) }, func(i int) string { return behind(100 + i) }
	for i, b := range list {
		settings = append(settings, fmt.Sprintf("egress = %s %s timeout=2", b.name, b.url),
			fmt.Sprintf("egress = %s-2 %s timeout=2", b.name, b.url), // with a health of its own
			fmt.Sprintf("egress-via = %s for %s", b.name, alone(i)), fmt.Sprintf("egress-via = %s-2,p for %s", b.name, listed(i)))
	}
	r := newProxyRig(t, p, settings...)
	mute, err := lab.StartFlows(r.Tgt, lab.Flows{Kind: lab.FlowsAccept, To: net.JoinHostPort(lab.Tgt4, strconv.Itoa(portMute))})
	r.must(err)
	r.storyOf(mute)
	garbage, err := r.Tgt.Start("garbage", nil, nil, "socat", fmt.Sprintf("TCP-LISTEN:%d,fork,reuseaddr", portGarbage), `SYSTEM:echo SSH-2.0-OpenSSH_9.9; sleep 1`)
	r.must(err)
	r.storyOf(garbage)
	for i := range list {
		r.must(r.Tgt.IP("addr add "+alone(i)+"/32 dev lo", "addr add "+listed(i)+"/32 dev lo"))
	}
	c := r.connect(lab.Dial{})
	r.each(c, command("by the way that works", lab.Hello, web(lab.Behind4)...))
	before, memory := r.workersFiles()
	for i, b := range list {
		if b.name == "http-mute" { // which may wait for a silent destination, so that three have to wait
			for _, to := range []string{alone(i), listed(i)} {
				for range 3 {
					r.each(c, command("waiting", "fails:timed out", connecting(to, lab.PortHTTP, 1)...))
				}
			}
			r.expect(r.srv.Process, `way out is down.*way=http-mute-2`, 20*time.Second)
		}
		told := noRoute
		if b.name == "http-mute" {
			told = "fails:" // when its time is over it is tried again, and may wait again
		}
		began := time.Now()
		r.each(c, command(b.name+" alone", told, blocking(alone(i), lab.PortHTTP, 10)...))
		r.each(c, command(b.name+" and another", lab.Hello, web(listed(i))...))
		if took := time.Since(began); took > 15*time.Second && b.name != "http-mute" {
			t.Errorf("%s: %v for both", b.name, took)
		}
		for _, name := range []string{b.name, b.name + "-2"} {
			r.expect(r.srv.Process, `way out is down.*way=`+name+` .*(`+b.log+`)`, 5*time.Second)
		}
	}
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		after, now := r.workersFiles()
		if after <= before && now < memory+badBudget {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors and %d bytes, there were %d and %d", after, now, before, memory)
		}
	}
}

// blocking is connecting by a connect that waits: now and then nc takes an error
// that is there before it looks for none.
func blocking(addr string, port, seconds int) []string {
	return []string{"timeout", strconv.Itoa(seconds), "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", addr, port)}
}

// badBudget is by how much the worker's private memory may have grown, in bytes:
// each way keeps its counters, and the heap is not given back at once.
const badBudget = 12 << 20

// workersFiles is how many descriptors and bytes the worker with the most
// descriptors has, which is the one with the tunnel.
func (r *rig) workersFiles() (most int, memory int64) {
	r.Helper()
	roles, err := r.srv.Processes()
	r.must(err)
	for _, p := range roles[lab.RoleWorker] {
		n, err := lab.Descriptors(p.PID)
		r.must(err)
		if n > most {
			most = n
			memory, err = lab.Private(p.PID)
			r.must(err)
		}
	}
	return most, memory
}

// A proxy that dies in the middle of a transfer resets the client's connection;
// the next goes by the other way, and back when the proxy is there again.
func TestProxyDies(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	for _, p := range []proxied{proxies()[1], proxies()[2], proxies()[4]} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			port := p.ports[0]
			p.ports = append(p.ports, lab.PortSquidAuth)
			r := newProxyRig(t, p, "dns = 198.51.100.53", "egress-via = p,other",
				"egress = other http://"+lab.ProxyUser+":"+lab.ProxyPassword+"@"+proxyAddress+strconv.Itoa(lab.PortSquidAuth))
			c := r.connect(lab.Dial{})
			r.each(c, command("by the first", lab.Hello, web(lab.Behind4)...))
			before, _ := r.workersFiles()
			began := make(chan []lab.Transferred, 1)
			go func() {
				done, _ := lab.Fetch(c.From, 30*time.Second, lab.Transfer{Host: lab.Behind4, Bytes: 8 << 20, Rate: 1 << 20})
				began <- done
			}()
			time.Sleep(1500 * time.Millisecond)
			_, err := r.proxies[port].End(9, 5*time.Second)
			r.must(err)
			if done := <-began; len(done) != 1 || done[0].Err == "" {
				t.Errorf("a transfer through a dead proxy: %+v", done)
			}
			r.each(c, command("by the second", lab.Hello, web(lab.Behind4)...))
			r.expect(r.srv.Process, `way out is down.*way=p .*connection refused`, 5*time.Second)
			again, err := r.StartProxy(port)
			r.must(err)
			t.Cleanup(func() { again.End(15, 5*time.Second) })
			for deadline := time.Now().Add(45 * time.Second); !r.srv.Has(`way out is up again.*way=p`); time.Sleep(500 * time.Millisecond) {
				c.From.Run(web(lab.Behind4)...)
				if time.Now().After(deadline) {
					t.Fatal("the first way is not found to be up again")
				}
			}
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(500 * time.Millisecond) {
				after, _ := r.workersFiles()
				if after <= before {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d descriptors, there were %d", after, before)
				}
			}
		})
	}
}
