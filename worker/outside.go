package worker

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"rocserv/egress"
	"rocserv/egress/httpproxy"
	"rocserv/egress/resolver"
	"rocserv/egress/tlsclient"
	"rocserv/egress/way"
	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/netstack"
	"rocserv/netstack/datagram"
	"rocserv/netstack/gateway"
)

// Outside is the network beyond the worker.
type Outside struct {
	Net      egress.Network
	Resolver gateway.Resolver
	Dial     DialService         // to services of the configuration; may be nil: there are none
	Ways     *way.Ways           // nil: the host's sockets only
	Ask      resolver.Lookup     // for names, as the client does; may be nil: no names
	SetHost  func(*ipc.HostInfo) // may be nil
	Trim     func()              // may be nil
	Close    func()
}

// OutsideConfig is what the network of one client is made of.
type OutsideConfig struct {
	Policy *egress.Policy
	Names  *egress.Names
	Host   *ipc.HostInfo
	Egress *ipc.EgressPolicy // may be nil
	Sign   WaySigner         // for ways whose proxy is shown a certificate
	Log    *slog.Logger
}

// WaySigner is the key, which is elsewhere, of a way's certificate.
type WaySigner func(way string, leaf *x509.Certificate) crypto.MessageSigner

// OpenOutside makes the network of one client.
type OpenOutside func(OutsideConfig) (Outside, error)

// hostOutside is the host's own sockets, and by them whatever ways the user has.
func hostOutside(c OutsideConfig) (Outside, error) {
	direct := egress.NewDirect(c.Policy, egress.DirectConfig{RecvTTL: true})
	direct.SetNAT64(nat64Of(c.Host))
	o := Outside{Net: direct, Trim: direct.Trim}
	pools := &pools{system: c.Egress.GetRoots(), made: map[string]*x509.CertPool{}}
	names := new(resolvers)
	var ways *way.Ways
	if len(c.Egress.GetVia()) > 0 || len(c.Egress.GetResolver().GetVia()) > 0 { // few users have any
		var err error
		if ways, err = waysOf(c, direct, names.lookup, pools); err != nil {
			direct.Close()
			return Outside{}, err
		}
	}
	if err := names.open(c, direct, ways, pools); err != nil {
		direct.Close()
		return Outside{}, err
	}
	if len(c.Egress.GetVia()) > 0 {
		o.Net, o.Ways = ways, ways // for others nothing is between them and the host's sockets
	}
	o.Resolver, o.Ask = names.main, names.main.Ask
	o.SetHost = func(m *ipc.HostInfo) {
		direct.SetNAT64(nat64Of(m))
		names.setHost(c.Egress, m)
	}
	o.Dial = func(ctx context.Context, host string, port uint16) (egress.Stream, error) {
		return resolver.DialService(ctx, direct, names.main.Lookup, host, port)
	}
	o.Close = func() {
		if ways != nil {
			ways.Close()
		}
		names.close()
		direct.Close()
	}
	return o, nil
}

// nat64Of is by which NAT64 IPv4 leaves; zero: by none.
func nat64Of(h *ipc.HostInfo) netip.Prefix {
	if found := ipc.Prefixes(h.Nat64); len(found) > 0 && !h.Ipv4Out {
		return found[0]
	}
	return netip.Prefix{}
}

// waysOf makes the user's ways.
func waysOf(c OutsideConfig, direct *egress.Direct, lookup resolver.Lookup, pools *pools) (*way.Ways, error) {
	cfg := way.Config{Direct: direct, Policy: c.Policy, Names: c.Names, Lookup: lookup, Log: c.Log}
	for _, w := range c.Egress.Ways {
		d, err := definitionOf(w, pools, c.Sign)
		if err != nil {
			return nil, fmt.Errorf("way %s: %w", w.Name, err)
		}
		cfg.Ways = append(cfg.Ways, d)
	}
	for _, v := range c.Egress.Via {
		where, err := whereOf(v.Where)
		if err != nil {
			return nil, fmt.Errorf("egress-via '%s': %w", v.Text, err)
		}
		cfg.Rules = append(cfg.Rules, way.Rule{Rule: where, Ways: v.Ways, Text: v.Text})
	}
	return way.New(cfg)
}

func definitionOf(w *ipc.WayOut, p *pools, sign WaySigner) (way.Definition, error) {
	d := way.Definition{
		Name: w.Name, Kind: way.Kind(w.Kind), Host: w.Host, Port: uint16(w.Port),
		Login: httpproxy.Login{User: w.User, Password: secret.NewText(w.Password), Bearer: secret.NewText(w.Bearer)},
		Check: w.Check, Timeout: time.Duration(w.TimeoutMs) * time.Millisecond,
		Binding: egress.Binding{Source4: ipc.Addr(w.Source4), Source6: ipc.Addr(w.Source6), Device: w.Interface},
	}
	if d.Kind != way.HTTPS {
		return d, nil
	}
	var err error
	if d.TLS, err = p.peer(w.ServerName, w.Fingerprint, w.Pins, w.Roots); err != nil {
		return d, err
	}
	if w.OldHttp {
		d.TLS.Protocols = []string{"http/1.1"}
	}
	if len(w.ClientChain) > 0 {
		leaf, err := x509.ParseCertificate(w.ClientChain[0])
		if err != nil {
			return d, err
		}
		d.TLS.Certificate = &tlsclient.Certificate{Chain: w.ClientChain, Key: sign(w.Name, leaf)}
	}
	return d, nil
}

// peer is whom to expect at the other end of a TLS connection.
func (p *pools) peer(name, fingerprint string, pins [][]byte, roots []byte) (tlsclient.Config, error) {
	t := tlsclient.Config{ServerName: name, Fingerprint: fingerprint}
	for _, b := range pins {
		if len(b) != len(tlsclient.Pin{}) {
			return t, errors.New("a pin of another length")
		}
		t.Pins = append(t.Pins, tlsclient.Pin(b))
	}
	var err error
	t.Roots, err = p.pool(roots)
	return t, err
}

// pools are certificates to verify by. Those of the system are some hundreds,
// so they are read once, and not at all by whom they do not concern.
type pools struct {
	system []byte
	made   map[string]*x509.CertPool
}

// pool is never nil: a nil pool would be what crypto/x509 finds in files.
func (p *pools) pool(own []byte) (*x509.CertPool, error) {
	pem := own
	if len(pem) == 0 {
		pem = p.system
	}
	if made := p.made[string(pem)]; made != nil {
		return made, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in the file of those who may vouch for it")
	}
	p.made[string(pem)] = pool
	return pool, nil
}

func datagramLimits(l *ipc.Limits) datagram.Limits {
	var d datagram.Limits
	d.UDP, d.Echo, d.NewPerSecond = int(l.UdpFlows), int(l.IcmpFlows), int(l.NewFlowsPerS)
	return d
}

func streamLimits(l *ipc.Limits) netstack.Limits {
	return netstack.Limits{
		Flows: int(l.TcpFlows), Dials: int(l.Dials), NewPerSecond: int(l.NewFlowsPerS), Buffers: int(l.BufferBytes),
	}
}
