package main

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"testing"

	"rocserv/test/client"
)

// The connections that are counted, those to the floor, and logins offer the groups of
// openconnect that crypto/tls has, and no others.
func TestOffer(t *testing.T) {
	want := []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519}
	for name, connect := range map[string]func(to string){
		"rate":  func(to string) { firstAnswer(to) },
		"hold":  func(to string) { hold(to) },
		"login": func(to string) { client.Login(t.Context(), client.Config{Server: to}) },
	} {
		got := offeredTo(t, connect)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s offers %v, want %v", name, got, want)
		}
	}
}

// offeredTo are the groups in a client's hello.
func offeredTo(t *testing.T, connect func(to string)) []tls.CurveID {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan []tls.CurveID, 1)
	go func() {
		defer close(seen)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		tls.Server(conn, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			seen <- slices.Clone(hello.SupportedCurves)
			return nil, errors.New("enough")
		}}).Handshake()
	}()
	connect(l.Addr().String())
	return <-seen
}
