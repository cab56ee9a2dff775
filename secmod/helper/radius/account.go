package radius

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"

	"rocserv/internal/ipc"
	"rocserv/secmod/helper"
)

// statuses are what events are called (RFC 2866 section 5.1).
var statuses = map[helper.Event]rfc2866.AcctStatusType{
	helper.Start: rfc2866.AcctStatusType_Value_Start, helper.Interim: rfc2866.AcctStatusType_Value_InterimUpdate,
	helper.Stop: rfc2866.AcctStatusType_Value_Stop,
}

// causes are what ends of sessions are called (RFC 2866 section 5.10; ocserv,
// acct/radius.c). Any other is a lost service.
var causes = map[ipc.Reason]rfc2866.AcctTerminateCause{
	ipc.Reason_REASON_USER:            rfc2866.AcctTerminateCause_Value_UserRequest,
	ipc.Reason_REASON_SERVER:          rfc2866.AcctTerminateCause_Value_AdminReset,
	ipc.Reason_REASON_IDLE_TIMEOUT:    rfc2866.AcctTerminateCause_Value_IdleTimeout,
	ipc.Reason_REASON_SESSION_TIMEOUT: rfc2866.AcctTerminateCause_Value_SessionTimeout,
	ipc.Reason_REASON_DPD_TIMEOUT:     rfc2866.AcctTerminateCause_Value_LostCarrier,
	ipc.Reason_REASON_CONNECTION_LOST: rfc2866.AcctTerminateCause_Value_LostCarrier,
	ipc.Reason_REASON_ERROR:           rfc2866.AcctTerminateCause_Value_UserError,
}

// Tell sends an Accounting-Request to one server after the other until one has
// taken it.
func (m *method) Tell(ctx context.Context, a helper.Accounting) error {
	rep, from, err := m.ask(ctx, func(s server) (*radius.Packet, error) { return m.accounting(s, a, time.Now()) })
	if err != nil {
		return fmt.Errorf("RADIUS: %w", err)
	}
	if rep.Code != radius.CodeAccountingResponse {
		return fmt.Errorf("RADIUS: %s answers with a packet of code %d", from.name, rep.Code)
	}
	return nil
}

// accounting makes the Accounting-Request for a server (RFC 2866 section 4.1).
func (m *method) accounting(s server, a helper.Accounting, now time.Time) (*radius.Packet, error) {
	p := radius.New(radius.CodeAccountingRequest, []byte(s.secret.Reveal()))
	errs := []error{
		rfc2866.AcctStatusType_Set(p, statuses[a.Event]),
		rfc2866.AcctSessionID_SetString(p, a.SafeID),
		rfc2865.UserName_SetString(p, a.User),
		rfc2865.ServiceType_Set(p, rfc2865.ServiceType_Value_FramedUser),
		rfc2865.FramedProtocol_Set(p, rfc2865.FramedProtocol_Value_PPP),
		rfc2866.AcctAuthentic_Set(p, rfc2866.AcctAuthentic_Value_RADIUS),
		rfc2869.EventTimestamp_Set(p, a.At),
		rfc2866.AcctDelayTime_Set(p, rfc2866.AcctDelayTime(elapsed(a.At, now))),
		m.describe(p, a.Peer, a.Local, a.Agent),
	}
	for _, ip := range a.Lease {
		errs = append(errs, framed(p, ip))
	}
	if a.Event != helper.Start {
		errs = append(errs, counters(p, a))
	}
	if a.Event == helper.Stop {
		cause, known := causes[a.Reason]
		if !known {
			cause = rfc2866.AcctTerminateCause_Value_LostService
		}
		errs = append(errs, rfc2866.AcctTerminateCause_Set(p, cause))
	}
	return p, errors.Join(errs...)
}

func framed(p *radius.Packet, ip netip.Addr) error {
	if ip.Is4() {
		return rfc2865.FramedIPAddress_Set(p, net.IP(ip.AsSlice()))
	}
	return rfc6911.FramedIPv6Address_Set(p, net.IP(ip.AsSlice()))
}

// counters are those of the session, of 64 bits in two attributes each (RFC 2869
// sections 5.1 and 5.2). Input is what came from the client.
func counters(p *radius.Packet, a helper.Accounting) error {
	const giga = 32
	return errors.Join(
		rfc2866.AcctSessionTime_Set(p, rfc2866.AcctSessionTime(elapsed(a.Login, a.At))),
		rfc2866.AcctInputOctets_Set(p, rfc2866.AcctInputOctets(a.Up&(1<<giga-1))),
		rfc2869.AcctInputGigawords_Set(p, rfc2869.AcctInputGigawords(a.Up>>giga)),
		rfc2866.AcctOutputOctets_Set(p, rfc2866.AcctOutputOctets(a.Down&(1<<giga-1))),
		rfc2869.AcctOutputGigawords_Set(p, rfc2869.AcctOutputGigawords(a.Down>>giga)),
	)
}

// elapsed is how many seconds are between two times; none if a clock went back.
func elapsed(from, to time.Time) uint32 {
	return uint32(max(to.Sub(from), 0) / time.Second)
}
