package client

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
)

const pskLen = 32

// offer is what the server says to CONNECT.
type offer struct {
	addr4, addr6 netip.Addr
	mtu          int
	appID        []byte
	dtlsPort     string
	psk          []byte
}

// connect asks for the tunnel.
func (w *web) connect(cookie string, dtls bool) (*offer, error) {
	fields := []string{
		"Cookie: webvpn=" + cookie, "X-CSTP-Version: 1", "X-CSTP-Hostname: load",
		"X-CSTP-Base-MTU: 1500", "X-CSTP-MTU: 1434", "X-CSTP-Address-Type: IPv6,IPv4",
		"X-CSTP-Full-IPv6-Capability: true",
	}
	if dtls {
		fields = append(fields, "X-DTLS-CipherSuite: PSK-NEGOTIATE", "X-DTLS-Accept-Encoding: identity")
	}
	resp, _, err := w.ask(http.MethodConnect, "/CSCOSSLC/tunnel", "", fields...)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: CONNECT: %s", ErrLogin, resp.Status)
	}
	if w.in.Buffered() > 0 {
		return nil, fmt.Errorf("client: %d bytes follow the answer to CONNECT in its record", w.in.Buffered())
	}
	o := &offer{dtlsPort: resp.Header.Get("X-DTLS-Port")}
	for _, a := range resp.Header.Values("X-CSTP-Address") {
		if addr, err := netip.ParseAddr(a); err == nil && addr.Is4() {
			o.addr4 = addr
		} else if err == nil {
			o.addr6 = addr
		}
	}
	if p, err := netip.ParsePrefix(resp.Header.Get("X-CSTP-Address-IP6")); err == nil {
		o.addr6 = p.Addr()
	}
	if o.mtu, err = strconv.Atoi(resp.Header.Get("X-CSTP-MTU")); err != nil || !o.addr4.IsValid() {
		return nil, fmt.Errorf("client: CONNECT gives MTU %q, address %v", resp.Header.Get("X-CSTP-MTU"), o.addr4)
	}
	if !dtls {
		return o, nil
	}
	if o.appID, err = hex.DecodeString(resp.Header.Get("X-DTLS-App-ID")); err != nil || len(o.appID) == 0 {
		return nil, fmt.Errorf("client: the server offers no DTLS")
	}
	if m, err := strconv.Atoi(resp.Header.Get("X-DTLS-MTU")); err == nil {
		o.mtu = min(o.mtu, m)
	}
	state := w.tls.ConnectionState()
	o.psk, err = state.ExportKeyingMaterial("EXPORTER-openconnect-psk", nil, pskLen)
	return o, err
}

// Open logs in, unless there is a cookie, and makes a tunnel. ctx bounds that.
func Open(ctx context.Context, c Config) (*Tunnel, error) {
	w, err := dialWeb(ctx, c.Server)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { w.raw.Close() })
	t, err := w.open(ctx, c)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		w.raw.Close()
		return nil, err
	}
	return t, nil
}

func (w *web) open(ctx context.Context, c Config) (*Tunnel, error) {
	var err error
	if c.Cookie == "" {
		if c.Cookie, err = w.login(c.User, c.Password); err != nil {
			return nil, err
		}
	}
	o, err := w.connect(c.Cookie, c.DTLS)
	if err != nil {
		return nil, err
	}
	t := newTunnel(w, o, c)
	if c.DTLS {
		host, _, err := net.SplitHostPort(c.Server)
		if err != nil {
			return nil, err
		}
		if t.dtls, err = handshake(ctx, net.JoinHostPort(host, o.dtlsPort), o); err != nil {
			return nil, err
		}
	}
	t.start()
	return t, nil
}
