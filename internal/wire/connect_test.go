package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// connects returns the CONNECT requests of a transcript.
func connects(t *testing.T, name string) []*Connect {
	t.Helper()
	var list []*Connect
	for _, c := range transcript(t, name) {
		for _, r := range c.requests(t) {
			if !r.IsTunnel() {
				continue
			}
			conn, err := ParseConnect(r)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, conn)
		}
	}
	if len(list) == 0 {
		t.Fatalf("%s: no CONNECT", name)
	}
	return list
}

func TestParseConnectCaptured(t *testing.T) {
	base := connects(t, "openconnect-9.01/xml")[0]
	if string(base.SID) != "sample-sid-sample-sid-sample-sid" {
		t.Errorf("SID %q", []byte(base.SID))
	}
	if base.Hostname != "laptop" || base.UserAgent != "Open AnyConnect VPN Agent v9.01-3" || base.Agent != AgentOpenConnect {
		t.Errorf("%+v", base)
	}
	if base.LinkMTU != 65535 || base.MTU != 65425 || !base.IPv4 || !base.IPv6 || !base.FullIPv6 || base.Mobile || base.Hints != nil {
		t.Errorf("%+v", base)
	}
	if !slices.Equal(base.Encodings, []string{"oc-lz4", "lzs"}) || !slices.Equal(base.DTLS.Encodings, base.Encodings) {
		t.Errorf("encodings %q, %q", base.Encodings, base.DTLS.Encodings)
	}
	if len(base.DTLS.MasterSecret) != 48 || len(base.DTLS.Suites) != 8 || len(base.DTLS.Suites12) != 8 || !base.DTLS.PSK() || base.DTLS.PSKLast() {
		t.Errorf("DTLS %+v", base.DTLS)
	}
	// The others, by what differs.
	tests := []struct {
		name   string
		change func(*Connect)
	}{
		{"openconnect-9.01/ipv4-only", func(c *Connect) { c.IPv6, c.FullIPv6 = false, false }},
		{"openconnect-9.01/no-dtls", func(c *Connect) { c.DTLS, c.Encodings = DTLSOffer{}, nil }},
		{"openconnect-9.01/mtu", func(c *Connect) {
			c.LinkMTU, c.MTU, c.Encodings = 1500, 1300, []string{"oc-lz4", "lzs", "deflate"}
		}},
		{"openconnect-9.01/legacy-dtls", func(c *Connect) {
			c.DTLS.Suites, c.DTLS.Suites12 = nil, []string{"AES256-GCM-SHA384"}
		}},
		{"openconnect-9.01/os-android", func(c *Connect) {
			c.Device = Device{ID: "android", Type: "android", PlatformVersion: "1.0", UniqueID: strings.Repeat("A", 40)}
		}},
		{"openconnect-9.01/ua-cisco-ios", func(c *Connect) {
			c.Device = Device{ID: "apple-ios", Type: "apple-ios", PlatformVersion: "1.0", UniqueID: strings.Repeat("A", 40)}
			c.UserAgent, c.Agent = "Cisco AnyConnect VPN Agent for Apple iPhone 4.0.03004", AgentAnyConnectIOS
		}},
	}
	for _, tt := range tests {
		got, want := *connects(t, tt.name)[0], *base
		tt.change(&want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tt.name, got, want)
		}
	}
	again := connects(t, "openconnect-9.01/reconnect")
	if len(again) != 2 || !slices.Equal(again[1].Hints, []netip.Addr{netip.MustParseAddr("10.211.0.50")}) {
		t.Errorf("reconnect: %d, %v", len(again), again[len(again)-1].Hints)
	}
	sslcon := connects(t, "composed/sslcon")[0]
	if !sslcon.IPv4 || sslcon.IPv6 || sslcon.FullIPv6 || sslcon.MTU != 1399 || sslcon.DTLS.PSK() || sslcon.Agent != AgentAnyConnect {
		t.Errorf("sslcon: %+v", sslcon)
	}
}

func TestParseConnectHeaders(t *testing.T) {
	secret := strings.Repeat("01", 48)
	tests := []struct {
		field Field
		check func(*Connect) bool
	}{
		{Field{"X-CSTP-Base-MTU", "4294967295"}, func(c *Connect) bool { return c.LinkMTU == maxClientMTU }},
		{Field{"X-CSTP-Base-MTU", "99999999999999999999999999"}, func(c *Connect) bool { return c.LinkMTU == maxClientMTU }},
		{Field{"X-CSTP-Base-MTU", "-1"}, func(c *Connect) bool { return c.LinkMTU == 0 }},
		{Field{"X-CSTP-Base-MTU", "1500 "}, func(c *Connect) bool { return c.LinkMTU == 0 }}, // the Reader trims
		{Field{"x-cstp-mtu", "1400"}, func(c *Connect) bool { return c.MTU == 1400 }},
		{Field{"X-CSTP-MTU", "0x500"}, func(c *Connect) bool { return c.MTU == 0 }},
		{Field{"X-CSTP-MTU", ""}, func(c *Connect) bool { return c.MTU == 0 }},
		{Field{"X-CSTP-Address-Type", "IPv6"}, func(c *Connect) bool { return !c.IPv4 && c.IPv6 }},
		{Field{"X-CSTP-Address-Type", "ipv6,ipv4"}, func(c *Connect) bool { return c.IPv4 && c.IPv6 }},
		{Field{"X-CSTP-Address-Type", "none"}, func(c *Connect) bool { return !c.IPv4 && !c.IPv6 }},
		{Field{"X-CSTP-VPNAddress-Type", "IPv4"}, func(c *Connect) bool { return c.IPv4 && !c.IPv6 }},
		{Field{"X-Nothing", ""}, func(c *Connect) bool { return c.IPv4 && c.IPv6 && !c.FullIPv6 && !c.Mobile }},
		{Field{"X-CSTP-Full-IPv6-Capability", "TRUE"}, func(c *Connect) bool { return c.FullIPv6 }},
		{Field{"X-CSTP-Full-IPv6-Capability", "false"}, func(c *Connect) bool { return !c.FullIPv6 }},
		{Field{"X-CSTP-License", "mobile"}, func(c *Connect) bool { return c.Mobile }},
		{Field{"X-CSTP-Address", "fe80::1%eth0"}, func(c *Connect) bool { return len(c.Hints) == 0 }},
		{Field{"X-CSTP-Address", "10.0.0.1/24"}, func(c *Connect) bool { return len(c.Hints) == 0 }},
		{Field{"X-CSTP-Hostname", "l\xffp\u0085" + strings.Repeat("x", 1000)}, func(c *Connect) bool {
			return strings.HasPrefix(c.Hostname, "l.p.x") && len(c.Hostname) <= maxFact && oneSafeLine(c.Hostname)
		}},
		{Field{"X-DTLS-Master-Secret", secret}, func(c *Connect) bool { return len(c.DTLS.MasterSecret) == 48 }},
		{Field{"X-DTLS-Master-Secret", secret[2:]}, func(c *Connect) bool { return c.DTLS.MasterSecret == nil }},
		{Field{"X-DTLS-Master-Secret", secret + "01"}, func(c *Connect) bool { return c.DTLS.MasterSecret == nil }},
		{Field{"X-DTLS-Master-Secret", strings.Repeat("00", 48)}, func(c *Connect) bool { return c.DTLS.MasterSecret == nil }},
		{Field{"X-DTLS-Master-Secret", strings.Repeat("zz", 48)}, func(c *Connect) bool { return c.DTLS.MasterSecret == nil }},
		{Field{"X-DTLS-CipherSuite", ":: A : B:"}, func(c *Connect) bool { return slices.Equal(c.DTLS.Suites, []string{"A", "B"}) }},
		{Field{"X-DTLS-CipherSuite", strings.Repeat("A:", 1000)}, func(c *Connect) bool { return len(c.DTLS.Suites) == maxSuites }},
		{Field{"X-DTLS-CipherSuite", "AES128-SHA:PSK-NEGOTIATE"}, func(c *Connect) bool { return c.DTLS.PSK() && c.DTLS.PSKLast() }},
		{Field{"X-DTLS-CipherSuite", "PSK-NEGOTIATE"}, func(c *Connect) bool { return c.DTLS.PSK() && !c.DTLS.PSKLast() }},
		{Field{"X-DTLS-CipherSuite", "psk-negotiate"}, func(c *Connect) bool { return !c.DTLS.PSK() && !c.DTLS.PSKLast() }},
		{Field{"X-AnyConnect-Identifier-Platform", "apple-ios"}, func(c *Connect) bool { return c.Device.ID == "apple-ios" }},
	}
	for _, tt := range tests {
		r := Request{Method: "CONNECT", Header: Header{{"Cookie", "webvpn=" + testSID}, tt.field}}
		c, err := ParseConnect(&r)
		if err != nil {
			t.Errorf("%.60q: %v", tt.field, err)
		} else if !tt.check(c) {
			t.Errorf("%.60q: %+v", tt.field, c)
		}
	}
	r := Request{Header: Header{{"Cookie", "webvpn=" + testSID}}}
	for i := range 10 {
		r.Header = append(r.Header, Field{"X-CSTP-Address", fmt.Sprintf("10.0.0.%d", i)})
	}
	if c, err := ParseConnect(&r); err != nil || len(c.Hints) != maxHints {
		t.Errorf("hints: %v, %v", c, err)
	}
}

func TestParseConnectRefuses(t *testing.T) {
	other := FormatSID(make([]byte, SIDLen))
	tests := []struct {
		cookie string
		err    error
	}{
		{"", ErrNoCookie},
		{"webvpn=", ErrNoCookie},
		{"webvpncontext=" + testSID, ErrNoCookie},
		{"webvpn=bogus", ErrSID},
		{"webvpn=" + testSID + "=", ErrSID},
		{"webvpn=" + strings.Repeat("A", maxCookie+1), ErrCookieTooLong},
		{"webvpn=" + testSID + "; webvpn=" + other, ErrCookieConflict},
	}
	for _, tt := range tests {
		c, err := ParseConnect(&Request{Header: Header{{"Cookie", tt.cookie}}})
		if !errors.Is(err, tt.err) || c != nil {
			t.Errorf("%.60q: %v", tt.cookie, err)
		}
	}
}

func TestConnectClear(t *testing.T) {
	c := connects(t, "openconnect-9.01/xml")[0]
	if s := fmt.Sprintf("%v %+v", c, *c); strings.Contains(s, "sample") || strings.Contains(s, "171 205") {
		t.Errorf("it prints: %s", s)
	}
	c.Clear()
	if s := string(c.SID) + string(c.DTLS.MasterSecret); strings.Trim(s, "\x00") != "" {
		t.Errorf("after Clear: %q", s)
	}
}

func TestChoose(t *testing.T) {
	secret := Secret(strings.Repeat("x", 48))
	gnutls := connects(t, "openconnect-9.01/xml")[0].DTLS
	sslcon := connects(t, "composed/sslcon")[0].DTLS
	ours := []Suite{SuiteECDHERSAAES256GCM, SuiteECDHERSAAES128GCM, SuiteRSAAES256GCM, SuiteRSAAES128GCM}
	tests := []struct {
		name   string
		offer  DTLSOffer
		psk    bool
		legacy []Suite
		want   DTLSChoice
	}{
		{"openconnect", gnutls, true, ours, DTLSChoice{DTLSPSK, 0, "PSK-NEGOTIATE", false}},
		{"without PSK", gnutls, false, ours, DTLSChoice{DTLSLegacy, 0xc030, "ECDHE-RSA-AES256-GCM-SHA384", true}},
		{"our order counts", gnutls, false, []Suite{SuiteECDHERSAAES128GCM, SuiteECDHERSAAES256GCM}, DTLSChoice{DTLSLegacy, 0xc02f, "ECDHE-RSA-AES128-GCM-SHA256", true}},
		{"nothing allowed", gnutls, false, nil, DTLSChoice{}},
		{"sslcon", sslcon, true, ours, DTLSChoice{DTLSLegacy, 0xc030, "ECDHE-RSA-AES256-GCM-SHA384", true}},
		{"no offer", DTLSOffer{}, true, ours, DTLSChoice{}},
		{"no secret", DTLSOffer{Suites12: gnutls.Suites12}, true, ours, DTLSChoice{}},
		{"PSK needs no secret", DTLSOffer{Suites: []string{"PSK-NEGOTIATE"}}, true, ours, DTLSChoice{DTLSPSK, 0, "PSK-NEGOTIATE", false}},
		{"openconnect 7", DTLSOffer{MasterSecret: secret, Suites: []string{"OC-DTLS1_2-AES128-GCM", "AES128-SHA"}}, true, ours,
			DTLSChoice{DTLSLegacy, 0x009c, "OC-DTLS1_2-AES128-GCM", false}},
		{"only what is too old", DTLSOffer{MasterSecret: secret, Suites: []string{"AES256-SHA", "AES128-SHA", "DES-CBC3-SHA"}}, true, ours, DTLSChoice{}},
		{"in the wrong header", DTLSOffer{MasterSecret: secret, Suites: []string{"ECDHE-RSA-AES256-GCM-SHA384"}}, true, ours, DTLSChoice{}},
		{"one suite by both names", DTLSOffer{MasterSecret: secret, Suites: []string{"OC-DTLS1_2-AES256-GCM"}, Suites12: []string{"AES256-GCM-SHA384"}}, false, ours,
			DTLSChoice{DTLSLegacy, 0x009d, "AES256-GCM-SHA384", true}},
	}
	for _, tt := range tests {
		if got := tt.offer.Choose(tt.psk, tt.legacy); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func FuzzParseConnect(f *testing.F) {
	for _, c := range transcripts(f) {
		for _, r := range c.requests(f) {
			if r.IsTunnel() {
				var b strings.Builder
				for _, h := range r.Header {
					b.WriteString(h.Name + ": " + h.Value + "\r\n")
				}
				f.Add(b.String())
			}
		}
	}
	ours := []Suite{SuiteECDHERSAAES256GCM, SuiteRSAAES128GCM}
	f.Fuzz(func(t *testing.T, fields string) {
		req, err := next("CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n" + fields + "\r\n")
		if err != nil {
			return
		}
		c, err := ParseConnect(req)
		if err != nil {
			return
		}
		if len(c.SID) != SIDLen || !oneSafeLine(c.Hostname+c.UserAgent+c.Device.ID+c.Device.UniqueID) {
			t.Fatalf("%+v", c)
		}
		if c.LinkMTU < 0 || c.LinkMTU > maxClientMTU || c.MTU < 0 || c.MTU > maxClientMTU || len(c.Hints) > maxHints {
			t.Fatalf("%+v", c)
		}
		if s := c.DTLS.MasterSecret; s != nil && len(s) != masterSecretLen {
			t.Fatalf("master secret of %d bytes", len(s))
		}
		choice := c.DTLS.Choose(true, ours)
		if choice.Mode == DTLSLegacy && c.DTLS.MasterSecret == nil {
			t.Fatal("legacy without a secret")
		}
		// What the client says of itself can be said back to it.
		tun := Tunnel{
			Agent: c.Agent, Hostname: c.Hostname, Addresses: Addresses{IPv4: netip.MustParseAddr("10.0.0.2"), Bits4: 24},
			MTU: MTUInput{ClientLink: c.LinkMTU, Client: c.MTU, Overhead: choice.Suite.Overhead()}.MTU(),
		}
		if choice.Mode != DTLSNone {
			tun.DTLS = &TunnelDTLS{Port: 443, ID: make([]byte, 32), Choice: choice}
		}
		b, err := tun.Response()
		if err != nil {
			t.Fatal(err)
		}
		checkReply(t, b)
	})
}
