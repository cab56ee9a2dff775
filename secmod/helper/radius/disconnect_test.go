package radius

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3576"

	"rocserv/secmod/helper"
)

// sessions is sec-mod in these tests: it has those of one user.
type sessions struct {
	mu    sync.Mutex
	asked []helper.Target
}

func (s *sessions) end(_ context.Context, t helper.Target) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, t)
	switch {
	case t.User == "stuck":
		return 0, errors.New("no answer")
	case t.User == "anna" || t.SafeID == "c2FmZQ==":
		return 2, nil
	}
	return 0, nil
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// TestDisconnectRequests: what is answered, and what is asked of sec-mod.
func TestDisconnectRequests(t *testing.T) {
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.LocalAddr().String()
	free.Close()
	conf := written(t, []*fake{{addr: "127.0.0.1:9"}, {addr: "192.0.2.9:9"}}, "acctserver 127.0.0.1:9 192.0.2.9:9", "dynauth-listen "+at)
	made, err := MakeAccount(map[string]string{"config": conf, "nas-identifier": "vpn"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	second, err := MakeAccount(map[string]string{"config": conf}, slog.New(slog.DiscardHandler)) // of a reload
	if err != nil {
		t.Fatal(err)
	}
	closed, cancel := context.WithCancel(t.Context())
	cancel()
	second.Listen(closed, nil)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var s sessions
	done := make(chan struct{})
	go func() { defer close(done); made.Listen(ctx, s.end) }()
	now := func(p *radius.Packet) { rfc2869.EventTimestamp_Set(p, time.Now()) }
	user := func(name string) func(*radius.Packet) {
		return func(p *radius.Packet) { rfc2865.UserName_SetString(p, name) }
	}
	attr := func(kind radius.Type, value string) func(*radius.Packet) {
		return func(p *radius.Packet) { p.Add(kind, []byte(value)) }
	}
	for _, tt := range []struct {
		name   string
		code   radius.Code
		secret string
		with   []func(*radius.Packet)
		want   string // the answer; empty: none
		asks   int
	}{
		{"a user", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna"), now}, "Disconnect-ACK", 1},
		{"a session", radius.CodeDisconnectRequest, word, []func(*radius.Packet){attr(rfc2866.AcctSessionID_Type, "c2FmZQ==")}, "Disconnect-ACK", 1},
		{"by this server's name", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna"), now, attr(rfc2865.NASIdentifier_Type, "vpn")}, "Disconnect-ACK", 1},
		{"with a proxy's state", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna"), now, attr(rfc2865.ProxyState_Type, "xyz")}, "Disconnect-ACK xyz", 1},
		{"nobody", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("ben"), now}, "Disconnect-NAK Session-Context-Not-Found", 1},
		{"no word of sec-mod", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("stuck"), now}, "Disconnect-NAK Resources-Unavailable", 1},
		{"no time", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna")}, "Disconnect-NAK Missing-Attribute", 0},
		{"an address of many", radius.CodeDisconnectRequest, word, []func(*radius.Packet){attr(rfc2865.CallingStationID_Type, "192.0.2.7"), now}, "Disconnect-NAK Missing-Attribute", 0},
		{"another server", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna"), now, attr(rfc2865.NASIdentifier_Type, "x")}, "Disconnect-NAK NAS-Identification-Mismatch", 0},
		{"what is not known", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna"), now, attr(rfc2865.SessionTimeout_Type, "\x00\x00\x00\x01")}, "Disconnect-NAK Unsupported-Attribute", 0},
		{"no address", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna"), now, attr(rfc2865.CallingStationID_Type, "x")}, "Disconnect-NAK Invalid-Request", 0},
		{"a change", radius.CodeCoARequest, word, []func(*radius.Packet){user("anna"), now}, "CoA-NAK Unsupported-Extension", 0},
		{"another secret", radius.CodeDisconnectRequest, "guess", []func(*radius.Packet){user("anna"), now}, "", 0},
		{"of yesterday", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna"), func(p *radius.Packet) { rfc2869.EventTimestamp_Set(p, time.Now().Add(-time.Hour)) }}, "", 0},
		{"a wrong Message-Authenticator", radius.CodeDisconnectRequest, word, []func(*radius.Packet){user("anna"), now, reserve}, "", 0},
		{"another kind", radius.CodeAccountingRequest, word, []func(*radius.Packet){user("anna"), now}, "", 0},
	} {
		before := s.count()
		if got := disconnectBy(t, at, tt.code, tt.secret, tt.with...); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if n := s.count() - before; n != tt.asks {
			t.Errorf("%s: sec-mod is asked %d times", tt.name, n)
		}
	}
	stop()
	<-done
}

// disconnectBy sends a request and returns its answer in short.
func disconnectBy(t *testing.T, at string, code radius.Code, secret string, with ...func(*radius.Packet)) string {
	t.Helper()
	p := radius.New(code, []byte(secret))
	for _, f := range with {
		f(p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	rep, err := radius.Exchange(ctx, p, at)
	if err != nil {
		return ""
	}
	text := rep.Code.String()
	if cause, err := rfc3576.ErrorCause_Lookup(rep); err == nil {
		text += " " + cause.String()
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s", text, rfc2865.ProxyState_Get(rep)))
}

func TestListenAt(t *testing.T) {
	for value, want := range map[string]string{"3799": "[::]:3799", "127.0.0.1:3799": "127.0.0.1:3799", "0": "", "1.2.3.4:0": "", "x": ""} {
		a, err := listenAt(value)
		if (err == nil) != (want != "") || err == nil && a.String() != want {
			t.Errorf("%s: %v, %v", value, a, err)
		}
	}
}
