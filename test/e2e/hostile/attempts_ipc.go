package hostile

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"rocserv/internal/ipc"
)

// toMain and toSecMod make attempts of one record.
func toMain(make func(*taken) []byte, fds ...int) func(*taken, *Order) error {
	return func(t *taken, _ *Order) error { return send(t.mainRaw, make(t), fds...) }
}

func toSecMod(make func(*taken) []byte, fds ...int) func(*taken, *Order) error {
	return func(t *taken, _ *Order) error { return send(t.secRaw, make(t), fds...) }
}

func fixed(b []byte) func(*taken) []byte { return func(*taken) []byte { return b } }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// malformed is no protobuf message of any type: a field that ends too early.
var malformed = []byte{0x0a, 0xff, 0x01, 'x'}

// tooLong is longer than a record may be.
func tooLong(typ ipc.Type) []byte { return record(typ, 0, make([]byte, ipc.MaxRecord+10)) }

// times sends a record often.
func times(n int, fd func(*taken) int, rec []byte) func(*taken, *Order) error {
	return func(t *taken, _ *Order) error {
		for range n - 1 {
			if err := sendOnly(fd(t), rec); err != nil {
				return survive(fd(t)) // it is over already
			}
		}
		return send(fd(t), rec)
	}
}

func mainAttempts() []Attempt {
	withClient := []string{Handshake, Login, Tunnel}
	all := append([]string{Pooled}, withClient...)
	someSID := marshal(&ipc.AuthCookieReq{Sid: bytes.Repeat([]byte{7}, 32)})
	channel := func(t *taken) int { return t.mainRaw }
	guess := func(sid func(*taken, *Order) []byte) func(*taken, *Order) error {
		return func(t *taken, o *Order) error {
			result, err := t.cookie(sid(t, o))
			if err == nil && result != ipc.CookieResult_COOKIE_OK {
				err = fmt.Errorf("%v", result)
			}
			return err
		}
	}
	return []Attempt{
		{"main: ready a second time", all, Ended, toMain(fixed(record(ipc.WorkerReadyT, 0, nil)))},
		{"main: session information without a session", []string{Pooled, Handshake, Login}, Ended, toMain(fixed(record(ipc.SessionInfoT, 0, nil)))},
		{"main: MTU without a session", []string{Pooled, Handshake, Login}, Ended, toMain(fixed(record(ipc.TunMTUT, 0, nil)))},
		{"main: tunnel without a client", []string{Pooled}, Ended, toMain(fixed(record(ipc.AuthCookieReqT, 0, someSID)))},
		{"main: points without a client", []string{Pooled}, Ended, toMain(fixed(record(ipc.BanIPT, 0, nil)))},
		{"main: a message of main's own", all, Ended, toMain(fixed(record(ipc.TerminateT, 0, nil)))},
		{"main: a message of sec-mod's", all, Ended, toMain(fixed(record(ipc.SecmBanIPT, 0, nil)))},
		{"main: a connection for itself", withClient, Ended, toMain(fixed(record(ipc.SecmWorkerT, 0, nil)))},
		{"main: an unknown message", all, Ended, toMain(fixed(record(250, 0, nil)))},
		{"main: a record too short", all, Ended, toMain(fixed([]byte{byte(ipc.BanIPT), 0}))},
		{"main: a record too long", all, Ended, toMain(fixed(tooLong(ipc.AuthCookieReqT)))},
		{"main: a malformed message", []string{Handshake, Login}, Ended, toMain(fixed(record(ipc.AuthCookieReqT, 0, malformed)))},
		{"main: a malformed message of a tunnel", []string{Tunnel}, Ended, toMain(fixed(record(ipc.SessionInfoT, 0, malformed)))},
		{"main: an id", withClient, Ended, toMain(fixed(record(ipc.BanIPT, 9, nil)))},
		{"main: a descriptor where none belongs", withClient, Ended, toMain(fixed(record(ipc.BanIPT, 0, nil)), 2)},
		{"main: many descriptors", withClient, Ended, toMain(fixed(record(ipc.BanIPT, 0, nil)), 2, 2, 2, 2, 2, 2, 2, 2)},
		{"main: last words twice", withClient, Ended, times(2, channel, record(ipc.SessionStatsT, 0, nil))},
		{"main: a flood", withClient, Ended, times(200, channel, record(ipc.BanIPT, 0, nil))},
		{"main: a second tunnel", []string{Tunnel}, Ended, toMain(func(t *taken) []byte {
			return record(ipc.AuthCookieReqT, 0, marshal(&ipc.AuthCookieReq{Sid: t.sid}))
		})},
		{"main: a guessed cookie", []string{Handshake, Login}, Refused, guess(func(*taken, *Order) []byte { return random(32) })},
		{"main: zeros for a cookie", []string{Handshake, Login}, Refused, guess(func(*taken, *Order) []byte { return make([]byte, 32) })},
		{"main: the SID of a login that is not done", []string{Login}, Refused, guess(func(t *taken, _ *Order) []byte { return t.sid })},
		{"main: what people are shown of another's session", []string{Handshake, Login}, Refused, guess(func(_ *taken, o *Order) []byte {
			b, _ := base64.StdEncoding.DecodeString(o.SafeID)
			return append(b, make([]byte, max(0, 32-len(b)))...)[:32]
		})},
		{"main: a cookie again and again", []string{Handshake}, Ended, func(t *taken, _ *Order) error {
			if _, err := t.cookie(random(32)); err != nil {
				return err
			}
			return send(t.mainRaw, record(ipc.AuthCookieReqT, 0, someSID))
		}},
	}
}

func secModAttempts() []Attempt {
	withClient := []string{Handshake, Login, Tunnel}
	channel := func(t *taken) int { return t.secRaw }
	sign := func(change func(*ipc.SignReq)) func(*taken, *Order) error {
		q := goodText()
		change(q)
		return toSecMod(fixed(record(ipc.SignT, 0, marshal(q))))
	}
	first := []string{Handshake}
	later := []string{Login, Tunnel}
	guessed := marshal(&ipc.AuthCont{Sid: bytes.Repeat([]byte{7}, 32), Password: []byte("x")})
	return []Attempt{
		{"sec-mod: a second signature", later, Ended, sign(func(*ipc.SignReq) {})},
		{"sec-mod: a signature over another text", first, Ended, sign(func(q *ipc.SignReq) { q.Message = []byte("I owe you") })},
		{"sec-mod: a signature as a client", first, Ended, sign(func(q *ipc.SignReq) {
			q.Message = bytes.Replace(q.Message, []byte("server"), []byte("client"), 1)
		})},
		{"sec-mod: a signature with SHA-1", first, Ended, sign(func(q *ipc.SignReq) { q.Scheme = 0x0203 })},
		{"sec-mod: a key that is not there", first, Ended, sign(func(q *ipc.SignReq) { q.KeyIndex = 99 })},
		{"sec-mod: a virtual host that is not there", first, Ended, sign(func(q *ipc.SignReq) { q.Vhost = "other.example" })},
		{"sec-mod: a login before the handshake", first, Ended, toSecMod(fixed(record(ipc.AuthInitT, 0, marshal(&ipc.AuthInit{User: "bob"}))))},
		{"sec-mod: a password before the handshake", first, Ended, toSecMod(fixed(record(ipc.AuthContT, 0, guessed)))},
		{"sec-mod: a login in a tunnel", []string{Tunnel}, Ended, toSecMod(fixed(record(ipc.AuthInitT, 0, marshal(&ipc.AuthInit{User: "bob"}))))},
		{"sec-mod: a login at another virtual host", []string{Login}, Ended, toSecMod(fixed(record(ipc.AuthInitT, 0, marshal(&ipc.AuthInit{Vhost: "other.example", User: "bob"}))))},
		{"sec-mod: a signature for a way without a session", []string{Handshake, Login}, Ended, toSecMod(fixed(record(ipc.WaySignT, 0, marshal(&ipc.WaySignReq{Way: "corp"}))))},
		{"sec-mod: a signature for a way of others", []string{Tunnel}, Refused, func(t *taken, _ *Order) error {
			rep := new(ipc.SignRep)
			if err := t.ask(ipc.WaySignT, &ipc.WaySignReq{Way: "corp", Scheme: 0x0403, Message: goodText().Message}, ipc.WaySignRepT, rep); err != nil {
				return err
			}
			if rep.Error != "" {
				return errors.New(rep.Error)
			}
			return nil
		}},
		{"sec-mod: counters without a session", []string{Handshake, Login}, Ended, toSecMod(fixed(record(ipc.CliStatsT, 0, nil)))},
		{"sec-mod: a session by main's word", withClient, Ended, toSecMod(func(t *taken) []byte {
			return record(ipc.SecmSessionOpenT, 0, marshal(&ipc.SecmSessionOpen{Sid: t.sid, ConnId: 1}))
		})},
		{"sec-mod: the end of another's session", withClient, Ended, toSecMod(fixed(record(ipc.SecmSessionCloseT, 0, marshal(&ipc.SecmSessionClose{ConnId: 1}))))},
		{"sec-mod: a list of all sessions", withClient, Ended, toSecMod(fixed(record(ipc.SecmListCookiesT, 0, nil)))},
		{"sec-mod: a configuration", withClient, Ended, toSecMod(fixed(record(ipc.SecmConfigT, 0, nil)), 2)},
		{"sec-mod: an unknown message", withClient, Ended, toSecMod(fixed(record(250, 0, nil)))},
		{"sec-mod: a record too short", withClient, Ended, toSecMod(fixed([]byte{byte(ipc.SignT)}))},
		{"sec-mod: a record too long", withClient, Ended, toSecMod(fixed(tooLong(ipc.SignT)))},
		{"sec-mod: a malformed message", first, Ended, toSecMod(fixed(record(ipc.SignT, 0, malformed)))},
		{"sec-mod: a malformed login", []string{Login}, Ended, toSecMod(fixed(record(ipc.AuthContT, 0, malformed)))},
		{"sec-mod: an id", first, Ended, toSecMod(fixed(record(ipc.SignT, 5, marshal(goodText()))))},
		{"sec-mod: a descriptor where none belongs", withClient, Ended, toSecMod(fixed(record(ipc.SignT, 0, marshal(goodText()))), 2)},
		{"sec-mod: logins without end", []string{Login}, Ended, times(40, channel, record(ipc.AuthInitT, 0, marshal(&ipc.AuthInit{User: "bob"})))},
		{"sec-mod: a short SID", []string{Login}, Ended, toSecMod(fixed(record(ipc.AuthContT, 0, marshal(&ipc.AuthCont{Sid: []byte("short")}))))},
		{"sec-mod: a guessed SID", []string{Login}, Refused, func(t *taken, _ *Order) error {
			return password(t, random(32), "correct horse")
		}},
		{"sec-mod: a guessed password", []string{Login}, Refused, func(t *taken, _ *Order) error { return password(t, t.sid, "guess") }},
		{"sec-mod: an invented ticket", first, Refused, func(t *taken, _ *Order) error {
			rep := new(ipc.ResumeRep)
			if err := t.ask(ipc.ResumeOpenT, &ipc.ResumeReq{Data: random(100)}, ipc.ResumeRepT, rep); err != nil {
				return err
			}
			if len(rep.Data) == 0 {
				return fmt.Errorf("not opened")
			}
			return nil
		}},
	}
}

func password(t *taken, sid []byte, password string) error {
	rep := new(ipc.AuthReply)
	if err := t.ask(ipc.AuthContT, &ipc.AuthCont{Sid: sid, Password: []byte(password)}, ipc.AuthReplyT, rep); err != nil {
		return err
	}
	if rep.Status != ipc.AuthStatus_AUTH_OK {
		return fmt.Errorf("%v", rep.Status)
	}
	return nil
}
