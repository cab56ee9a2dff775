package worker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"rocserv/egress"
	"rocserv/egress/httpproxy"
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
	Log    *slog.Logger
}

// OpenOutside makes the network of one client.
type OpenOutside func(OutsideConfig) (Outside, error)

// hostOutside is the host's own sockets, and by them whatever ways the user has.
func hostOutside(c OutsideConfig) (Outside, error) {
	direct := egress.NewDirect(c.Policy, egress.DirectConfig{RecvTTL: true})
	direct.SetNAT64(nat64Of(c.Host))
	resolver := egress.NewResolver(direct, egress.ResolverConfig{
		Upstreams:  upstreamsOf(c.Egress, c.Host),
		AAAAFilter: !c.Host.Ipv6Out,
		Names:      c.Names,
		Now:        time.Now,
	})
	o := Outside{
		Net:      direct,
		Resolver: resolver,
		SetHost: func(m *ipc.HostInfo) {
			direct.SetNAT64(nat64Of(m))
			resolver.SetUpstreams(upstreamsOf(c.Egress, m))
			resolver.SetAAAAFilter(!m.Ipv6Out)
		},
		Dial: func(ctx context.Context, host string, port uint16) (egress.Stream, error) {
			return egress.DialService(ctx, direct, resolver, host, port)
		},
		Trim: direct.Trim,
		Close: func() {
			resolver.Close()
			direct.Close()
		},
	}
	if len(c.Egress.GetVia()) == 0 {
		return o, nil // as most users: nothing between them and the host's sockets
	}
	ways, err := waysOf(c, direct, resolver)
	if err != nil {
		o.Close()
		return Outside{}, err
	}
	closeHost := o.Close
	o.Net, o.Close = ways, func() { ways.Close(); closeHost() }
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
func waysOf(c OutsideConfig, direct *egress.Direct, resolver *egress.Resolver) (*way.Ways, error) {
	cfg := way.Config{Direct: direct, Policy: c.Policy, Names: c.Names, Lookup: resolver.Lookup, Log: c.Log}
	pools := pools{system: c.Egress.Roots, made: map[string]*x509.CertPool{}}
	for _, w := range c.Egress.Ways {
		d, err := definitionOf(w, &pools)
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

func definitionOf(w *ipc.WayOut, p *pools) (way.Definition, error) {
	d := way.Definition{
		Name: w.Name, Kind: way.Kind(w.Kind), Host: w.Host, Port: uint16(w.Port),
		Login: httpproxy.Login{User: w.User, Password: secret.NewText(w.Password), Bearer: secret.NewText(w.Bearer)},
		Check: w.Check, Timeout: time.Duration(w.TimeoutMs) * time.Millisecond,
		Binding: egress.Binding{Source4: ipc.Addr(w.Source4), Source6: ipc.Addr(w.Source6), Device: w.Interface},
	}
	if d.Kind != way.HTTPS {
		return d, nil
	}
	d.TLS = tlsclient.Config{ServerName: w.ServerName, Fingerprint: w.Fingerprint}
	if w.OldHttp {
		d.TLS.Protocols = []string{"http/1.1"}
	}
	for _, b := range w.Pins {
		if len(b) != len(tlsclient.Pin{}) {
			return d, errors.New("a pin of another length")
		}
		d.TLS.Pins = append(d.TLS.Pins, tlsclient.Pin(b))
	}
	var err error
	d.TLS.Roots, err = p.pool(w.Roots)
	return d, err
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
