//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// folk are two clients of one server, each with the services of a target.
type folk struct {
	*rig
	alice, bob     *lab.Client
	alice4, alice6 string
	bob4, bob6     string
	atAlice, atBob *lab.Process
}

// folks connects two clients. users are files of users' settings, by name.
func folks(t *testing.T, users map[string]string, settings ...string) *folk {
	t.Helper()
	rocservOnly(t, "client to client takes routes and firewall rules of the host there")
	f := &folk{rig: newLab(t, 2)}
	f.must(os.Mkdir(f.state.Path("user"), 0o755))
	for name, text := range users {
		f.must(os.WriteFile(f.state.Path("user", name), []byte(text), 0o644))
	}
	f.must(f.state.Configure(append(settings, "client-to-client = true", "config-per-user = "+f.state.Path("user"))...))
	f.start()
	var err error
	f.atAlice, err = lab.StartTarget(f.Cli[0])
	f.must(err)
	f.atBob, err = lab.StartTarget(f.Cli[1])
	f.must(err)
	f.alice = f.connect(lab.Dial{})
	f.bob = f.connect(lab.Dial{From: f.Cli[1], User: lab.Other, Input: right})
	f.alice4, f.alice6, err = f.alice.Addresses()
	f.must(err)
	f.bob4, f.bob6, err = f.bob.Addresses()
	f.must(err)
	return f
}

// both runs checks from either client to the other.
func (f *folk) both(checks func(host4, host6 string) []check) {
	f.Helper()
	f.each(f.alice, checks(f.bob4, f.bob6)...)
	f.each(f.bob, checks(f.alice4, f.alice6)...)
}

// seen is what a target says of who comes to its PortWitness.
const seen = `seen (tcp|udp) from `

// telling sends a datagram that is told of if it arrives.
func telling(host string) check {
	return piped("UDP to who would tell", "x", "", "socat", "-u", "-", fmt.Sprintf("UDP-SENDTO:%s:%d", host, lab.PortWitness))
}

// Two clients reach each other by their addresses: what one sends is what the
// other gets, with one hop between them.
func TestClientToClient(t *testing.T) {
	t.Parallel()
	f := folks(t, nil)
	f.both(func(host4, host6 string) []check {
		return []check{
			command("ping, one hop", `(?s)ttl=63 .*3 packets transmitted, 3 received`, pinging(host4)...),
			command("ping over IPv6, one hop", `(?s)ttl=63 .*3 packets transmitted, 3 received`, pinging(host6)...),
			command("ping without a hop to spare", "fails:From 10.66.0.1 .*Time to live exceeded", "ping", "-n", "-c", "1", "-t", "1", "-W", "2", host4),
			command("HTTP", lab.Hello, web(host4)...),
			command("HTTP over IPv6", lab.Hello, web("["+host6+"]")...),
			command("a closed port", "fails:refused", connecting(host4, lab.PortClosed, 5)...),
			{"UDP of every size", echoing(host4, 0, 1, 1400, 3000, 20000)},
			{"UDP of every size over IPv6", echoing(host6, 0, 1, 1400, 3000, 20000)},
			command("TCP to who tells", "succeeded", connecting(host4, lab.PortWitness, 8)...),
			telling(host4),
			telling("[" + host6 + "]"),
		}
	})
	for _, at := range []*lab.Process{f.atAlice, f.atBob} {
		for _, what := range []string{`seen tcp from 10\.66\.`, `seen udp from 10\.66\.`, `seen udp from \[fd`} {
			_, err := at.Expect(what, answerLimit)
			f.must(err)
		}
	}
	for _, c := range []struct {
		from  *lab.Client
		hosts []string
	}{{f.alice, []string{f.bob4, f.bob6}}, {f.bob, []string{f.alice4, f.alice6}}} {
		for _, upload := range []bool{false, true} {
			for _, host := range c.hosts {
				began := time.Now()
				f.must(transfer(c.from, lab.Transfer{Host: host, Bytes: 50 * megabyte, Upload: upload}))
				t.Logf("%s, upload %v: %.0f Mbit/s", host, upload, 8*50/time.Since(began).Seconds())
			}
		}
	}
	f.must(hello4.run(f.rig, f.alice)) // the rest of the world is still there
	f.must(hello6.run(f.rig, f.bob))

	// Bob's connection breaks: he may come back, but is not there.
	f.bob.Signal(syscall.SIGKILL)
	gone := []check{
		command("who is away", "fails:From 10.66.0.1 .*Destination Host Unreachable", pinging(f.bob4)...),
		command("who is away, over IPv6", "fails:Address unreachable", pinging(f.bob6)...),
		command("who is away, by TCP", "fails:No route to host", connecting(f.bob4, lab.PortHTTP, 8)...),
	}
	f.each(f.alice, gone...)
}

// Who may not is told so at once, whichever of the two it is; and hears nothing.
func TestClientToClientOff(t *testing.T) {
	t.Parallel()
	f := folks(t, map[string]string{lab.Other: "client-to-client = false\n"})
	f.both(func(host4, host6 string) []check {
		return []check{
			command("ping", "fails:From 10.66.0.1 .*Packet filtered", pinging(host4)...),
			command("ping over IPv6", "fails:Administratively prohibited", pinging(host6)...),
			command("TCP", "fails:No route to host", connecting(host4, lab.PortHTTP, 8)...),
			command("TCP over IPv6", "fails:Permission denied", connecting(host6, lab.PortHTTP, 8)...),
			command("TCP to who would tell", "fails:No route to host", connecting(host4, lab.PortWitness, 8)...),
			telling(host4),
			telling("[" + host6 + "]"),
		}
	})
	f.must(hello4.run(f.rig, f.alice))
	if f.atAlice.Has(seen) || f.atBob.Has(seen) {
		t.Error("something has come through")
	}
}

// A tunnel that takes less than the other: the sender learns by how much, or its
// packets come in pieces.
func TestClientToClientMTU(t *testing.T) {
	t.Parallel()
	f := folks(t, map[string]string{lab.Other: "mtu = 1380\n"})
	env, err := f.bob.Env("connect")
	f.must(err)
	bobs, err := strconv.Atoi(env["INTERNAL_IP4_MTU"])
	f.must(err)
	env, err = f.alice.Env("connect")
	f.must(err)
	alices, err := strconv.Atoi(env["INTERNAL_IP4_MTU"])
	f.must(err)
	if bobs >= alices-20 {
		t.Fatalf("MTU of %d and %d: nothing to see", alices, bobs)
	}
	size := func(header int) string { return fmt.Sprint(alices - header) }
	f.each(f.alice,
		command("pieces", "1 received", "ping", "-n", "-c", "1", "-W", "2", "-M", "dont", "-s", size(28), f.bob4),
		command("whole", fmt.Sprintf("fails:From 10.66.0.1 .*mtu = %d", bobs), "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", size(28), f.bob4),
		command("whole over IPv6", fmt.Sprintf("fails:mtu=%d", bobs), "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", size(48), f.bob6),
	)
	f.must(transfer(f.alice, lab.Transfer{Host: f.bob4, Bytes: 5 * megabyte, Upload: true}, lab.Transfer{Host: f.bob6, Bytes: 5 * megabyte, Upload: true}))
	f.must(transfer(f.bob, lab.Transfer{Host: f.alice4, Bytes: 5 * megabyte, Upload: true}, lab.Transfer{Host: f.alice6, Bytes: 5 * megabyte, Upload: true}))
}

// A network behind one client is reached from the other, who gets a route there;
// hosts of it reach the other client, and nothing else.
func TestIroute(t *testing.T) {
	t.Parallel()
	const host, network = "192.168.77.1", "192.168.77.0/24"
	f := folks(t, map[string]string{lab.Other: "iroute = " + network + "\n"}, "expose-iroutes = true", "route = "+lab.Pool4, "route = 10.77.9.0/24", "route = fd77:9::/64")
	// A host behind bob, that answers datagrams from the address they were sent to.
	f.must(f.Cli[1].IP("addr add "+host+"/24 dev lo", "route replace "+f.alice4+" dev "+f.bob.Device+" src "+host))
	f.within(10*time.Second, func() error { // alice's worker hears of it within a second
		_, err := f.Cli[0].Run("ping", "-n", "-c", "1", "-W", "1", host)
		return err
	})
	f.wantEnv(f.alice, map[string]string{"CISCO_SPLIT_INC": "3"})
	f.wantEnv(f.bob, map[string]string{"CISCO_SPLIT_INC": "2"})
	f.each(f.alice,
		command("ping", "3 received", pinging(host)...),
		command("HTTP", lab.Hello, web(host)...),
		check{"UDP", echoing(host, 0, 1400, 3000)},
	)
	f.each(f.bob,
		command("ping from there", "3 received", "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", "-I", host, f.alice4),
		command("HTTP from there", lab.Hello, "curl", "-sS", "-m", "10", "--interface", "host!"+host, "http://"+f.alice4+"/"),
		command("from there to the world", "fails:From 10.66.0.1 .*Packet filtered", "ping", "-n", "-c", "1", "-W", "2", "-I", host, lab.Tgt4),
	)
	f.must(transfer(f.alice, lab.Transfer{Host: host, Bytes: 20 * megabyte}, lab.Transfer{Host: host, Bytes: 20 * megabyte, Upload: true}))
}

// Both clients change their connection while they exchange data: it goes on.
func TestClientToClientRoams(t *testing.T) {
	t.Parallel()
	f := folks(t, nil)
	const seconds, rate = 15, megabyte / 2
	done := make(chan error, 1)
	mark := f.atBob.Mark()
	go func() {
		done <- transfer(f.alice, lab.Transfer{Host: f.bob4, Bytes: seconds * rate, Rate: rate},
			lab.Transfer{Host: f.bob6, Bytes: seconds * rate, Rate: rate, Upload: true})
	}()
	for _, under := range []string{"^sending ", "^taking "} { // both ways; who is away cannot be connected to
		if _, err := f.atBob.ExpectAfter(mark, under, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*lab.Client{f.bob, f.alice} {
		time.Sleep(time.Second)
		f.must(c.Forget("reconnect"))
		f.must(c.Signal(syscall.SIGUSR2))
		f.must(c.WaitScript("reconnect", 60*time.Second))
	}
	f.must(<-done)
	f.each(f.alice, command("ping afterwards", "3 received", pinging(f.bob4)...))
}
