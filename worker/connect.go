package worker

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/internal/slack"
	"rocserv/internal/wire"
	"rocserv/worker/dtls"
)

// open asks main for the tunnel and, if it is granted, makes the session and
// tells the client. Nil without an error: it was refused, and the client told so.
func (c *client) open(connect *wire.Connect) (*session, error) {
	rec, err := c.link.cookie(&ipc.AuthCookieReq{
		Sid: connect.SID, Hostname: connect.Hostname, UserAgent: connect.UserAgent,
		WantIpv4: connect.IPv4, WantIpv6: connect.IPv6, Mobile: connect.Mobile,
		CertificateSha256: c.secure.certificate.hash(),
		DeviceType:        connect.Device.Type, DevicePlatform: connect.Device.ID,
	})
	if err != nil {
		return nil, fmt.Errorf("asking for the tunnel: %w", err)
	}
	defer rec.Close()
	rep := new(ipc.AuthCookieRep)
	if err := rec.Decode(rep); err != nil {
		return nil, err
	}
	switch rep.Result {
	case ipc.CookieResult_COOKIE_OK:
	case ipc.CookieResult_COOKIE_UNAVAILABLE:
		return nil, c.reply(&wire.Request{Close: true}, wire.Unavailable(rep.Reason))
	default:
		return nil, c.reply(&wire.Request{Close: true}, c.secure.unacceptable())
	}
	cfg := new(ipc.SessionConfig)
	if len(rec.FDs) < 1 || rep.Lease == nil {
		return nil, fmt.Errorf("%w: AUTH_COOKIE_REP without configuration or lease", ipc.ErrViolation)
	}
	if err := ipc.ReadSealedMessage(rec.FDs[0], cfg); err != nil {
		return nil, err
	}
	slack.Restore() // where the client has begun with its CONNECT
	c.Log.Info("session opened", slog.String("user", rep.User), slog.String("session", rep.ShortId))
	offer := c.offerTunnel(connect, rep, cfg)
	s, err := newSession(c, offer)
	if err != nil {
		c.reply(&wire.Request{Close: true}, wire.Unavailable("Server configuration error"))
		return nil, err
	}
	head, err := offer.tunnel.Response()
	if err != nil {
		c.reply(&wire.Request{Close: true}, wire.Unavailable("Server configuration error"))
		s.close()
		return nil, err
	}
	var keepers []int
	for i := 1; i < len(rec.FDs); i++ {
		keepers = append(keepers, rec.TakeFD(i))
	}
	s.takeKeepers(keepers)
	if !c.link.attach(s) {
		s.close()
		return nil, nil
	}
	if _, err := c.secure.conn.Write(head); err != nil { // one record, nothing else in it
		s.close()
		return nil, err
	}
	return s, nil
}

// offer is what a session is made of: what main granted and what the client is
// told of it.
type offer struct {
	rep    *ipc.AuthCookieRep
	cfg    *ipc.SessionConfig
	lease  leased
	tunnel *wire.Tunnel
	mobile bool
	dtls   dtls.Keys // of the DTLS channel; none: CSTP only
	suites []uint16  // of the DTLS channel
	packing
}

// offerTunnel settles what client and server can both do.
func (c *client) offerTunnel(connect *wire.Connect, rep *ipc.AuthCookieRep, cfg *ipc.SessionConfig) *offer {
	o := &offer{rep: rep, cfg: cfg, mobile: connect.Mobile, lease: leaseOf(rep.Lease), packing: packingOf(c.secure.vhost, connect)}
	choice, overhead := c.chooseDTLS(o, connect), wire.CSTPOverhead
	switch choice.Mode {
	case wire.DTLSPSK:
		overhead = wire.SuitePSKAES128GCM.Overhead()
	case wire.DTLSLegacy:
		overhead = choice.Suite.Overhead()
	}
	mtu := wire.MTUInput{
		Configured: int(cfg.Mtu), ClientLink: connect.LinkMTU, Client: connect.MTU,
		Path: c.pathMTU(), Outer6: c.id.outer6, Overhead: overhead,
	}.MTU()
	if mtu.Tunnel < wire.MinMTU6 {
		o.lease.ipv6, o.lease.gateway6 = none, none
	}
	o.tunnel = &wire.Tunnel{
		Agent:      connect.Agent,
		ServerName: c.cfg.ServerName,
		Hostname:   cfg.Hostname,
		Addresses:  addressesOf(o.lease, rep.Lease, !connect.FullIPv6),
		Names:      namesOf(cfg, o.lease),
		Routes:     wire.Routes{Include: prefixes(cfg.Routes), Exclude: prefixes(cfg.NoRoutes), Bypass: cfg.ClientBypass},
		Timers:     timersOf(cfg, o.mobile, time.UnixMilli(rep.LoginUnixMs)),
		MTU:        mtu,
		DynDNS:     cfg.Dyndns,
		ProxyURL:   cfg.ProxyUrl,
		Banner:     cfg.Banner,
		Custom:     cfg.CustomHeaders,
		HTTP:       c.secure.vhost.HttpHeaders,
		Encoding:   string(o.packing.cstp),
	}
	o.packing.most = mtu.Tunnel
	if choice.Mode != wire.DTLSNone {
		o.tunnel.DTLS = &wire.TunnelDTLS{Port: int(c.cfg.UdpPort), ID: rep.AppId, Choice: choice, Encoding: string(o.packing.dtls)}
	}
	return o
}

// legacySuites are those a client without PSK can resume a DTLS session with that
// never was, best first: as with PSK, AES-128 costs least here.
var legacySuites = []wire.Suite{
	wire.SuiteECDHERSAAES128GCM, wire.SuiteECDHERSAAES256GCM, wire.SuiteRSAAES128GCM, wire.SuiteRSAAES256GCM,
}

// chooseDTLS settles how the DTLS channel is made, and its key.
func (c *client) chooseDTLS(o *offer, connect *wire.Connect) wire.DTLSChoice {
	v := c.secure.vhost
	if c.cfg.UdpPort == 0 || o.cfg.NoUdp || len(o.rep.AppId) != 32 {
		return wire.DTLSChoice{}
	}
	o.suites = dtlsSuites
	if v.MatchCiphers {
		o.suites = matching(c.secure.conn.ConnectionState().CipherSuite)
	}
	if v.DtlsPsk && connect.DTLS.PSK() && len(o.suites) > 0 {
		o.dtls.PSK = c.pskFor(connect, o.rep)
	}
	var legacy []wire.Suite
	if v.DtlsLegacy {
		legacy = legacySuites
	}
	choice := connect.DTLS.Choose(!o.dtls.PSK.IsZero(), legacy)
	if choice.Mode == wire.DTLSLegacy {
		o.suites = []uint16{uint16(choice.Suite)} // the one that the client was told
		o.dtls.Master = secret.NewBytes(slices.Clone(connect.DTLS.MasterSecret))
	}
	return choice
}

// matching are the suites of a DTLS channel with the cipher of a suite of TLS.
func matching(suite uint16) []uint16 {
	name := tls.CipherSuiteName(suite)
	for cipher, s := range map[string]wire.Suite{
		"_AES_128_GCM_": wire.SuitePSKAES128GCM, "_AES_256_GCM_": wire.SuitePSKAES256GCM, "_CHACHA20_POLY1305_": wire.SuitePSKChaCha20,
	} {
		if strings.Contains(name, cipher) {
			return []uint16{uint16(s)}
		}
	}
	return nil
}

// pskFor returns the key of a DTLS channel by PSK, none if there can be none.
func (c *client) pskFor(connect *wire.Connect, rep *ipc.AuthCookieRep) secret.Bytes {
	psk, err := c.secure.exportPSK()
	if err != nil {
		c.Log.Info("no DTLS by PSK for this client", "err", err)
		return secret.Bytes{}
	}
	if stale := stalePSK(connect, rep.PreviousPskSha256); stale != nil {
		clear(psk)
		return secret.NewBytes(stale)
	}
	return secret.NewBytes(psk)
}

// stalePSK returns the key an OpenSSL build of openconnect up to 9.12 will
// present after a reconnect: that of its first connection, which it exported
// once and left in the buffer it sends as X-DTLS-Master-Secret (openconnect
// openssl-dtls.c). It counts only if this very session used it before, which
// main remembers by its hash.
func stalePSK(connect *wire.Connect, previous []byte) []byte {
	master := connect.DTLS.MasterSecret
	if !connect.DTLS.PSKLast() || len(master) < 32 || len(previous) != sha256.Size {
		return nil
	}
	sum := sha256.Sum256(master[:32])
	if subtle.ConstantTimeCompare(sum[:], previous) != 1 {
		return nil
	}
	return append([]byte(nil), master[:32]...)
}

// pathMTU is what the kernel knows of the path to the client; 0: nothing.
func (c *client) pathMTU() (mtu int) {
	sc, ok := c.raw.Conn.(syscall.Conn)
	if !ok {
		return 0
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	rc.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			mtu = int(info.Pmtu)
		}
	})
	return mtu
}
