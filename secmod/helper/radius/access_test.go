package radius

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
	"layeh.com/radius/rfc4818"
	"layeh.com/radius/rfc6911"

	"rocserv/secmod/helper"
)

const word = "the servers' secret"

// fake is a RADIUS server on loopback.
type fake struct {
	addr  string
	asked atomic.Int64
}

// answering starts a server that answers with what f makes, signed unless told
// otherwise.
func answering(t *testing.T, unsigned bool, f func(q, rep *radius.Packet)) *fake {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fake{addr: c.LocalAddr().String()}
	srv := radius.PacketServer{SecretSource: radius.StaticSecretSource([]byte(word)), Handler: radius.HandlerFunc(func(w radius.ResponseWriter, r *radius.Request) {
		s.asked.Add(1)
		if r.Code == radius.CodeAccessRequest && !requestSigned(r.Packet) {
			t.Error("a request without Message-Authenticator")
		}
		rep := r.Response(radius.CodeAccessReject)
		if !unsigned {
			reserve(rep)
		}
		f(r.Packet, rep)
		if !unsigned {
			if err := sign(rep); err != nil {
				t.Error(err)
			}
		}
		w.Write(rep)
	})}
	go srv.Serve(c)
	t.Cleanup(func() { c.Close() })
	return s
}

// requestSigned reports whether a request begins with a Message-Authenticator.
func requestSigned(p *radius.Packet) bool {
	return p.Attributes[0].Type == rfc2869.MessageAuthenticator_Type && signed(p, p)
}

// silent is a port where nobody answers, or f does with bytes of its own.
func silent(t *testing.T, f func(q []byte) []byte) *fake {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s := &fake{addr: c.LocalAddr().String()}
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			s.asked.Add(1)
			if f != nil {
				c.WriteTo(f(b[:n]), from)
			}
		}
	}()
	return s
}

// written makes a configuration with these servers; lines follow.
func written(t *testing.T, servers []*fake, lines ...string) string {
	t.Helper()
	var names, secrets []string
	for _, s := range servers {
		names = append(names, s.addr)
		secrets = append(secrets, s.addr+"\t"+word)
	}
	conf := append([]string{"# a comment", "authserver " + strings.Join(names, ","), "servers ./servers", "dictionary /none"}, lines...)
	dir := t.TempDir()
	for name, text := range map[string]string{"servers": strings.Join(secrets, "\n") + "\n", "radiusclient.conf": strings.Join(conf, "\n") + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "radiusclient.conf")
}

// made makes the method; a server has a second, and no second try.
func made(t *testing.T, line map[string]string, servers ...*fake) *method {
	t.Helper()
	line["config"] = written(t, servers, "radius_timeout 1", "radius_retries 0", "radius_deadtime 60")
	m, err := Make(line, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m.Method.(*method)
}

func begun(m *method, user string) helper.Dialogue {
	d, _ := m.Begin(context.Background(), helper.Applicant{
		User: user, Agent: "client/1", Peer: netip.MustParseAddr("192.0.2.7"), Local: netip.MustParseAddr("2001:db8::1"),
	})
	return d
}

// users is a server with a user whose password is right.
func users(t *testing.T, f func(rep *radius.Packet)) *fake {
	return answering(t, false, func(q, rep *radius.Packet) {
		if rfc2865.UserName_GetString(q) == "anna" && rfc2865.UserPassword_GetString(q) == "right" {
			rep.Code = radius.CodeAccessAccept
			if f != nil {
				f(rep)
			}
			return
		}
		rfc2865.ReplyMessage_SetString(rep, "no\x00entry")
	})
}

func TestPasswords(t *testing.T) {
	m := made(t, map[string]string{"nas-identifier": "vpn"}, users(t, func(rep *radius.Packet) {
		rfc2865.Class_AddString(rep, "OU=staff; ops")
		rfc2865.Class_AddString(rep, "board")
		rfc2865.FramedIPAddress_Set(rep, net.IPv4(10, 0, 0, 9))
	}))
	d := begun(m, "anna")
	for i := range tries {
		v := d.Answer(context.Background(), []byte("guess"))
		last := i == tries-1
		if !v.Wrong || (v.Outcome == helper.Ask) == last || !last && v.Prompt != askPasswordAgain {
			t.Errorf("guess %d: %+v", i, v)
		}
	}
	v := begun(m, "anna").Answer(context.Background(), []byte("right"))
	if v.Outcome != helper.Admit || v.User != "anna" || strings.Join(v.Groups, " ") != "staff ops board" || v.Grant.IPv4.IsValid() {
		t.Errorf("%+v", v)
	}
	if v := begun(m, "nobody").Answer(context.Background(), []byte("right")); !v.Wrong {
		t.Errorf("an unknown user: %+v", v)
	}
}

// TestImpossiblePassword: one that no request can carry is a wrong one, and no
// server is asked or blamed.
func TestImpossiblePassword(t *testing.T) {
	s := users(t, nil)
	m := made(t, map[string]string{}, s)
	d := begun(m, "anna")
	for i := range tries {
		v := d.Answer(context.Background(), []byte(strings.Repeat("x", maxPassword+1)))
		if want := i < tries-1; !v.Wrong || v.Outcome != helper.Refused && v.Outcome != helper.Ask || (v.Outcome == helper.Ask) != want {
			t.Errorf("answer %d: %+v", i, v)
		}
	}
	if s.asked.Load() != 0 || len(m.dead) != 0 {
		t.Errorf("asked %d times, %d servers are dead", s.asked.Load(), len(m.dead))
	}
	if v := begun(m, "anna").Answer(context.Background(), []byte(strings.Repeat("x", maxPassword))); !v.Wrong || s.asked.Load() != 1 {
		t.Errorf("the longest: %+v, asked %d times", v, s.asked.Load())
	}
	unspeakable := &login{m: m, who: helper.Applicant{User: strings.Repeat("x", 300)}}
	if v := unspeakable.Answer(context.Background(), []byte("right")); v.Outcome != helper.Unavailable || len(m.dead) != 0 {
		t.Errorf("a request that cannot be made: %+v, %d servers are dead", v, len(m.dead))
	}
}

// TestRequest: what a server is told.
func TestRequest(t *testing.T) {
	got := make(chan *radius.Packet, 1)
	m := made(t, map[string]string{"nas-identifier": "vpn"}, answering(t, false, func(q, rep *radius.Packet) { got <- q }))
	begun(m, "anna").Answer(context.Background(), []byte("x"))
	q := <-got
	nas, _ := rfc3162.NASIPv6Address_Lookup(q)
	for what, ok := range map[string]bool{
		"the client's address":  rfc2865.CallingStationID_GetString(q) == "192.0.2.7",
		"this server's":         nas.String() == "2001:db8::1",
		"this server's name":    rfc2865.NASIdentifier_GetString(q) == "vpn",
		"the client's program":  rfc2869.ConnectInfo_GetString(q) == "client/1",
		"authenticate only":     rfc2865.ServiceType_Get(q) == rfc2865.ServiceType_Value_AuthenticateOnly,
		"the kind of port":      rfc2865.NASPortType_Get(q) == rfc2865.NASPortType_Value_Async,
		"the password, hidden":  rfc2865.UserPassword_GetString(q) == "x",
		"nothing of challenges": rfc2865.State_Get(q) == nil,
	} {
		if !ok {
			t.Errorf("not told: %s", what)
		}
	}
}

func TestChallenges(t *testing.T) {
	endless := atomic.Bool{}
	other := users(t, nil)
	s := answering(t, false, func(q, rep *radius.Packet) {
		state := rfc2865.State_GetString(q)
		switch password := rfc2865.UserPassword_GetString(q); {
		case endless.Load(), state == "" && password == "right":
			rep.Code = radius.CodeAccessChallenge
			rfc2865.State_SetString(rep, "one")
			rfc2865.ReplyMessage_SetString(rep, "Code:")
		case state == "one" && password == "123":
			rep.Code = radius.CodeAccessChallenge
			rfc2865.State_SetString(rep, "two")
		case state == "two" && password == "456":
			rep.Code = radius.CodeAccessAccept
		}
	})
	m := made(t, map[string]string{}, s, other)
	for _, tt := range []struct {
		answers string
		want    string
	}{
		{"right 123 456", "Code:1 " + askPassword + "2 admit"},
		{"right 999", "Code:1 refused"},
		{"right 123 999", "Code:1 " + askPassword + "2 refused"},
		{"guess right 999", askPasswordAgain + "0 Code:1 refused"},
	} {
		d := begun(m, "anna")
		var got []string
		for _, a := range strings.Fields(tt.answers) {
			v := d.Answer(context.Background(), []byte(a))
			switch v.Outcome {
			case helper.Ask:
				got = append(got, fmt.Sprintf("%s%d", v.Prompt, v.Counter))
			case helper.Admit:
				got = append(got, "admit")
			case helper.Refused:
				got = append(got, "refused")
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %q, want %q", tt.answers, s, tt.want)
		}
	}
	endless.Store(true)
	d, rounds := begun(m, "anna"), 0
	for d.Answer(context.Background(), []byte("x")).Outcome == helper.Ask {
		rounds++
	}
	if rounds != maxRounds || other.asked.Load() != 0 {
		t.Errorf("%d rounds, and another server was asked %d times", rounds, other.asked.Load())
	}
}

// TestFailover: who does not answer is asked last, until its time is over; where
// nobody answers, nothing is said of the user.
func TestFailover(t *testing.T) {
	for name, first := range map[string]*fake{
		"silent":              silent(t, nil),
		"garbage":             silent(t, func(q []byte) []byte { return []byte("\x02\x01\x00\x14garbage garbage!") }),
		"an echo":             silent(t, func(q []byte) []byte { return q }),
		"a forged accept":     silent(t, func(q []byte) []byte { return append([]byte{2, q[1], 0, 20}, make([]byte, 16)...) }),
		"no MessageAuth":      answering(t, true, func(q, rep *radius.Packet) { rep.Code = radius.CodeAccessAccept }),
		"another MessageAuth": answering(t, true, func(q, rep *radius.Packet) { rep.Code = radius.CodeAccessAccept; reserve(rep) }),
	} {
		t.Run(name, func(t *testing.T) {
			second := users(t, nil)
			m := made(t, map[string]string{}, first, second)
			now := time.Now()
			m.now = func() time.Time { return now }
			for range 2 {
				if v := begun(m, "anna").Answer(context.Background(), []byte("right")); v.Outcome != helper.Admit {
					t.Fatalf("%+v", v)
				}
			}
			if n := first.asked.Load(); n != 1 {
				t.Errorf("the dead server was asked %d times", n)
			}
			now = now.Add(2 * time.Minute)
			begun(m, "anna").Answer(context.Background(), []byte("right"))
			if n := first.asked.Load(); n != 2 {
				t.Errorf("after its time the dead server was asked %d times", n)
			}
			alone := made(t, map[string]string{}, first)
			if v := begun(alone, "anna").Answer(context.Background(), []byte("right")); v.Outcome != helper.Unavailable || v.Wrong {
				t.Errorf("nobody answers: %+v", v)
			}
		})
	}
}

// TestNobodyWaits: a login that is cancelled makes no server dead.
func TestNobodyWaits(t *testing.T) {
	s := silent(t, nil)
	m := made(t, map[string]string{}, s)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if v := begun(m, "anna").Answer(ctx, []byte("right")); v.Outcome != helper.Unavailable {
		t.Errorf("%+v", v)
	}
	if len(m.dead) != 0 {
		t.Error("the server is dead")
	}
}

func TestServiceType(t *testing.T) {
	for kind, want := range map[rfc2865.ServiceType]helper.Outcome{
		rfc2865.ServiceType_Value_FramedUser: helper.Admit, rfc2865.ServiceType_Value_LoginUser: helper.Refused,
	} {
		m := made(t, map[string]string{}, users(t, func(rep *radius.Packet) { rfc2865.ServiceType_Set(rep, kind) }))
		if v := begun(m, "anna").Answer(context.Background(), []byte("right")); v.Outcome != want {
			t.Errorf("%v: %+v", kind, v)
		}
	}
}

func TestGrant(t *testing.T) {
	vendor := func(p *radius.Packet, id uint32, b ...byte) {
		a, err := radius.NewVendorSpecific(id, b)
		if err != nil {
			t.Fatal(err)
		}
		p.Add(rfc2865.VendorSpecific_Type, a)
	}
	network := func(s string) *net.IPNet {
		_, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	m := made(t, map[string]string{"groupconfig": "true", "group-separator": "comma"}, users(t, func(rep *radius.Packet) {
		rfc2865.Class_SetString(rep, "OU=a,b")
		rfc2865.FramedIPAddress_Set(rep, net.IPv4(10, 3, 0, 9))
		rfc2865.FramedIPNetmask_Set(rep, net.IPv4(255, 255, 0, 0))
		rfc6911.FramedIPv6Address_Set(rep, net.ParseIP("2001:db8:1::9"))
		rfc4818.DelegatedIPv6Prefix_Set(rep, network("2001:db8:2::/64"))
		rfc2865.FramedRoute_AddString(rep, "10.4.0.0/16 0.0.0.0 1")
		rfc2865.FramedRoute_AddString(rep, "nonsense")
		rfc2865.FramedRoute_AddString(rep, "192.168.7.0")
		rfc3162.FramedIPv6Route_AddString(rep, "2001:db8:5::/48 :: 1")
		rfc3162.FramedIPv6Prefix_Set(rep, network("2001:db8:6::/64"))
		rfc6911.DNSServerIPv6Address_Add(rep, net.ParseIP("2001:db8::53"))
		rfc2865.SessionTimeout_Set(rep, 3600)
		rfc2865.IdleTimeout_Set(rep, 600)
		rfc2869.AcctInterimInterval_Set(rep, 60)
		vendor(rep, microsoft, msDNS1, 6, 10, 0, 0, 53, msDNS2, 6, 10, 0, 0, 54)
		vendor(rep, roaring, rpUpstream, 6, 0, 0, 0, 16)
		vendor(rep, roaring, rpDownstream, 6, 0, 0, 0, 64)
		vendor(rep, roaring, 1) // cut off
	}))
	v := begun(m, "anna").Answer(context.Background(), []byte("right"))
	got := fmt.Sprintf("%v %+v", v.Groups, v.Grant)
	want := "[a b] {IPv4:10.3.0.9 IPv6:2001:db8:1::9 Bits4:16 Net6:2001:db8:2::/64 Routes:[10.4.0.0/16 192.168.7.0/24 2001:db8:5::/48 2001:db8:6::/64] " +
		"DNS:[10.0.0.53 10.0.0.54 2001:db8::53] SessionTimeout:1h0m0s IdleTimeout:10m0s Interim:1m0s RxPerSec:16000 TxPerSec:64000}"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, any := range []net.IP{net.IPv4(255, 255, 255, 255), net.IPv4(255, 255, 255, 254)} {
		p := radius.New(radius.CodeAccessAccept, nil)
		rfc2865.FramedIPAddress_Set(p, any)
		if g := grant(p); g.IPv4.IsValid() {
			t.Errorf("%v is an address", any)
		}
	}
}

// FuzzAnswer: whatever a server says is read without harm, and what comes of it is
// valid.
func FuzzAnswer(f *testing.F) {
	p := radius.New(radius.CodeAccessAccept, []byte(word))
	rfc2865.FramedRoute_AddString(p, "10.4.0.0/16")
	b, _ := p.MarshalBinary()
	f.Add(b)
	f.Add(append(b[:20:20], 26, 9, 0, 0, 1, 55, 28, 6, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := radius.Parse(b, []byte(word))
		if err != nil {
			return
		}
		if n := len(groups(p, ";")); n > maxGroups {
			t.Errorf("%d groups", n)
		}
		g := grant(p)
		for _, r := range g.Routes {
			if !r.IsValid() || r != r.Masked() {
				t.Errorf("route %v", r)
			}
		}
		for _, d := range g.DNS {
			if !d.IsValid() {
				t.Error("no address for a DNS server")
			}
		}
		replyMessage(p)
		signed(p, p)
	})
}

// TestServerMoves: the name of a server that does not answer is looked up again.
func TestServerMoves(t *testing.T) {
	there := users(t, nil)
	_, port, _ := net.SplitHostPort(there.addr)
	name := written(t, nil, "authserver moving.example:"+port+":"+"word", "radius_timeout 1", "radius_retries 0")
	var at atomic.Pointer[netip.Addr]
	put := func(s string) { a := netip.MustParseAddr(s); at.Store(&a) }
	put("127.0.0.2")
	made, err := makeMethod(map[string]string{"config": name}, slog.New(slog.DiscardHandler), func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{*at.Load()}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m := made.Method.(*method)
	where := func() string { return m.order()[0].addr }
	if got := where(); got != "127.0.0.2:"+port {
		t.Fatal(got)
	}
	put("127.0.0.1")
	if v := begun(m, "anna").Answer(t.Context(), []byte("right")); v.Outcome != helper.Unavailable {
		t.Fatalf("%+v", v)
	}
	for deadline := time.Now().Add(10 * time.Second); where() != there.addr; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is still at %s", where())
		}
	}
}
