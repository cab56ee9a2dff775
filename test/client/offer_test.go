package client

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"testing"
)

// Logins offer the groups of openconnect that crypto/tls has, and no others.
func TestOffer(t *testing.T) {
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
	if _, err := dialWeb(t.Context(), l.Addr().String()); err == nil {
		t.Error("a handshake without a server succeeded")
	}
	got := <-seen
	slices.Sort(got)
	if want := []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519}; !slices.Equal(got, want) {
		t.Errorf("offered: %v, want %v", got, want)
	}
}
