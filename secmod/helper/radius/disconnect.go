package radius

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
	"layeh.com/radius/rfc3576"
	"layeh.com/radius/rfc6911"

	"rocserv/secmod/helper"
)

const (
	// window is how old a request may be, or how new (RFC 5176 section 6.3).
	window = 300 * time.Second
	// endTime is how long sec-mod may take to end sessions.
	endTime = 5 * time.Second
)

// told are attributes that a request may have (RFC 5176 section 3.6).
var told = []radius.Type{
	rfc2865.UserName_Type, rfc2865.NASIPAddress_Type, rfc2865.FramedIPAddress_Type, rfc2865.CallingStationID_Type, rfc2865.NASIdentifier_Type,
	rfc2865.ProxyState_Type, rfc2866.AcctSessionID_Type, rfc2869.EventTimestamp_Type, rfc2869.MessageAuthenticator_Type,
	rfc3162.NASIPv6Address_Type, rfc6911.FramedIPv6Address_Type,
}

// listener takes Disconnect-Requests of a line's acctservers (RFC 5176).
type listener struct {
	m    *method
	conn *net.UDPConn
	end  helper.Disconnect
	now  func() time.Time
}

// listen opens the port, and returns what serves it. The helper before and the one
// after a reload have it at the same time: either may hear a request.
func listen(m *method) (func(context.Context, helper.Disconnect), error) {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
			return e
		}
		return err
	}}
	conn, err := c.ListenPacket(context.Background(), "udp", m.conf.dynamic.String())
	if err != nil {
		return nil, fmt.Errorf("dynauth-listen: %w", err)
	}
	l := &listener{m: m, conn: conn.(*net.UDPConn), now: time.Now}
	return l.serve, nil
}

// serve answers one request after the other: whoever sends many waits.
func (l *listener) serve(ctx context.Context, end helper.Disconnect) {
	l.end = end
	defer context.AfterFunc(ctx, func() { l.conn.Close() })()
	b := make([]byte, radius.MaxPacketLength)
	for {
		n, from, err := l.conn.ReadFromUDPAddrPort(b)
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue
		}
		if rep := l.answer(ctx, b[:n], from.Addr().Unmap()); rep != nil {
			if out, err := rep.Encode(); err == nil {
				l.conn.WriteToUDPAddrPort(out, from)
			}
		}
	}
}

// answer makes the answer to a request; nil to what is none of a server's. One of
// CoA-Request is that there is no such thing here.
func (l *listener) answer(ctx context.Context, b []byte, from netip.Addr) *radius.Packet {
	q := l.authentic(b, from)
	if q == nil {
		return nil
	}
	rep := q.Response(radius.CodeDisconnectACK)
	cause := rfc3576.ErrorCause_Value_UnsupportedExtension
	if q.Code == radius.CodeDisconnectRequest {
		cause = l.disconnect(ctx, q, from)
	}
	if cause != 0 {
		rep.Code = radius.CodeDisconnectNAK
		if q.Code == radius.CodeCoARequest {
			rep.Code = radius.CodeCoANAK
		}
		rfc3576.ErrorCause_Set(rep, cause)
	}
	for _, a := range q.Attributes {
		if a.Type == rfc2865.ProxyState_Type { // goes back as it came (RFC 5176 section 3.1)
			rep.Add(a.Type, a.Attribute)
		}
	}
	return rep
}

// authentic reads a request that a server has sent, and not long ago. Anything else
// is dropped without an answer (RFC 5176 sections 2.3 and 6.3).
func (l *listener) authentic(b []byte, from netip.Addr) *radius.Packet {
	for _, s := range l.m.order() {
		at, err := netip.ParseAddrPort(s.addr)
		if err != nil || at.Addr() != from || !radius.IsAuthenticRequest(b, []byte(s.secret.Reveal())) {
			continue
		}
		q, err := radius.Parse(b, []byte(s.secret.Reveal()))
		if err != nil || q.Code != radius.CodeDisconnectRequest && q.Code != radius.CodeCoARequest {
			return nil
		}
		if _, has := q.Lookup(rfc2869.MessageAuthenticator_Type); has && !requestAuthentic(q) {
			return nil
		}
		if at, err := rfc2869.EventTimestamp_Lookup(q); err == nil && l.now().Sub(at).Abs() > window {
			return nil
		}
		return q
	}
	return nil
}

// requestAuthentic checks the Message-Authenticator, which is made with zeros in
// place of the request's authenticator (RFC 5176 section 3.4).
func requestAuthentic(q *radius.Packet) bool {
	return signed(q, &radius.Packet{})
}

// disconnect ends the sessions that a request names; a cause says why not.
func (l *listener) disconnect(ctx context.Context, q *radius.Packet, from netip.Addr) rfc3576.ErrorCause {
	for _, a := range q.Attributes {
		if !slices.Contains(told, a.Type) {
			return rfc3576.ErrorCause_Value_UnsupportedAttribute
		}
	}
	if name, err := rfc2865.NASIdentifier_LookupString(q); err == nil && l.m.options.nasIdentifier != "" && name != l.m.options.nasIdentifier {
		return rfc3576.ErrorCause_Value_NASIdentificationMismatch
	}
	t, err := target(q)
	if err != nil {
		return rfc3576.ErrorCause_Value_InvalidRequest
	}
	_, stamped := q.Lookup(rfc2869.EventTimestamp_Type)
	if t.SafeID == "" && (!stamped || t.User == "" && !t.Lease.IsValid()) { // a name is good again for who heard an earlier request
		return rfc3576.ErrorCause_Value_MissingAttribute
	}
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	n, err := l.end(ctx, t)
	switch {
	case err != nil:
		return rfc3576.ErrorCause_Value_ResourcesUnavailable
	case n == 0:
		return rfc3576.ErrorCause_Value_SessionContextNotFound
	}
	l.m.log.Info("sessions ended by a RADIUS server", "server", from, "user", t.User, "sessions", n)
	return 0
}

// target is what a request says of the sessions it means.
func target(q *radius.Packet) (t helper.Target, err error) {
	t.SafeID, t.User = rfc2866.AcctSessionID_GetString(q), rfc2865.UserName_GetString(q)
	if ip, err := rfc2865.FramedIPAddress_Lookup(q); err == nil {
		t.Lease = addr(ip)
	} else if ip, err := rfc6911.FramedIPv6Address_Lookup(q); err == nil {
		t.Lease = addr(ip)
	}
	if peer := rfc2865.CallingStationID_GetString(q); peer != "" {
		t.Peer, err = netip.ParseAddr(peer)
	}
	return t, err
}
