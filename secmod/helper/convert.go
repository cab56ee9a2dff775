package helper

import (
	"net/netip"
	"strings"
	"time"

	"rocserv/internal/ipc"
)

// applicantOf reads who wants to log in.
func applicantOf(m *ipc.HelperBegin) Applicant {
	return Applicant{
		User: m.User, Group: m.Group, Vhost: m.Vhost, Agent: m.Agent,
		Peer: ipc.Addr(m.Peer), Local: ipc.Addr(m.Local), Browser: m.Browser, Ticket: m.Ticket,
	}
}

// accountingOf reads what became of a session.
func accountingOf(m *ipc.HelperAccount) Accounting {
	a := Accounting{
		Event: events[m.Event], At: time.UnixMilli(m.AtUnixMs), SafeID: m.SafeId, User: m.User, Group: m.Group, Vhost: m.Vhost, Agent: m.Agent,
		Peer: ipc.Addr(m.Peer), Local: ipc.Addr(m.Local), Login: time.UnixMilli(m.LoginUnixMs), Up: m.BytesUp, Down: m.BytesDown, Reason: m.Reason,
	}
	for _, b := range [][]byte{m.Ipv4, m.Ipv6} {
		if ip := ipc.Addr(b); ip.IsValid() {
			a.Lease = append(a.Lease, ip)
		}
	}
	return a
}

var events = map[ipc.AccountEvent]Event{
	ipc.AccountEvent_ACCOUNT_START: Start, ipc.AccountEvent_ACCOUNT_INTERIM: Interim, ipc.AccountEvent_ACCOUNT_STOP: Stop,
}

// outcomes are what outcomes are called in messages.
var outcomes = map[Outcome]ipc.HelperOutcome{
	Refused: ipc.HelperOutcome_HELPER_REFUSED, Ask: ipc.HelperOutcome_HELPER_ASK,
	Admit: ipc.HelperOutcome_HELPER_ADMIT, Unavailable: ipc.HelperOutcome_HELPER_UNAVAILABLE,
}

// message is the verdict as sec-mod gets it.
func (v Verdict) message() *ipc.HelperVerdict {
	m := &ipc.HelperVerdict{
		Outcome: outcomes[v.Outcome], Prompt: valid(v.Prompt), Counter: v.Counter, Wrong: v.Wrong, Why: valid(v.Why), Leg: v.Leg,
		LoginUrl: valid(v.LoginURL), FinalUrl: valid(v.FinalURL),
	}
	if v.Outcome == Admit {
		m.User, m.Grant = valid(v.User), v.Grant.message()
		for _, g := range v.Groups {
			m.Groups = append(m.Groups, valid(g))
		}
	}
	return m
}

// valid is what a server said as a message can hold it.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func (g Grant) message() *ipc.Grant {
	m := &ipc.Grant{
		Ipv4: ipc.PutAddr(g.IPv4), Ipv6: ipc.PutAddr(g.IPv6), Dns: putAll(g.DNS, ipc.PutAddr), Routes: putAll(g.Routes, ipc.PutPrefix),
		SessionTimeoutS: seconds(g.SessionTimeout), IdleTimeoutS: seconds(g.IdleTimeout), InterimS: seconds(g.Interim),
		RxBytesPerS: g.RxPerSec, TxBytesPerS: g.TxPerSec, Ipv4Bits: uint32(max(g.Bits4, 0)), Ipv6Network: ipc.PutPrefix(g.Net6),
	}
	return m
}

func putAll[T netip.Addr | netip.Prefix](list []T, put func(T) []byte) (all [][]byte) {
	for _, v := range list {
		all = append(all, put(v))
	}
	return all
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
