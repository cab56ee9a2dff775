package mainproc

import (
	"context"
	"net/netip"
	"time"

	"rocserv/internal/control"
	"rocserv/internal/ipc"
)

// limits shows whose logins sec-mod refuses after too many wrong answers.
func (c *console) limits(context.Context, nothing) (any, error) {
	rep := new(ipc.SecmLimits)
	if err := c.srv.sec.ask(outgoing{typ: ipc.SecmListLimitsT, msg: new(ipc.Nothing)}, ipc.SecmLimitsT, rep, statsTimeout); err != nil {
		return nil, control.Errorf(control.Unavailable, "sec-mod: %v", err)
	}
	list := control.Limits{Limits: []control.Limit{}, More: int(rep.More)}
	for _, l := range rep.Limits {
		one := control.Limit{User: l.User, Until: time.UnixMilli(l.UntilUnixMs)}
		if source := ipc.Prefix(l.Source); source.IsValid() {
			one.IP = sourceText(source)
		}
		list.Limits = append(list.Limits, one)
	}
	return list, nil
}

// unlimit has sec-mod forget what is held against a user, or against an address, named
// as limits shows it or by any of its own.
func (c *console) unlimit(_ context.Context, a control.UnlimitArgs) (any, error) {
	q := &ipc.SecmLift{User: a.User}
	switch {
	case (a.User == "") == (a.IP == ""):
		return nil, control.Errorf(control.BadRequest, "name a user or an address")
	case a.IP != "":
		addr, err := sourceAddr(a.IP)
		if err != nil {
			return nil, err
		}
		q.Source = ipc.PutAddr(addr)
	}
	rep := new(ipc.SecmLifted)
	if err := c.srv.sec.ask(outgoing{typ: ipc.SecmLiftT, msg: q}, ipc.SecmLiftedT, rep, statsTimeout); err != nil {
		return nil, control.Errorf(control.Unavailable, "sec-mod: %v", err)
	}
	if rep.Limits == 0 {
		return nil, control.Errorf(control.NotFound, "no limit of '%s' is reached", a.User+a.IP)
	}
	c.srv.log.Info("limit lifted by an operator", "user", a.User, "source", a.IP)
	return nil, nil
}

// sourceAddr reads an address, or a /64 as sourceText writes one.
func sourceAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if p, perr := netip.ParsePrefix(text); perr == nil {
		addr, err = p.Addr(), nil
	}
	if err != nil {
		return addr, control.Errorf(control.BadRequest, "%q is no IP address", text)
	}
	return addr, nil
}
