package secclient

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"rocserv/internal/ipc"
)

// ErrGone is wrapped by every error about a channel that is no more: sec-mod
// died, or it ended the channel because of a violation.
var ErrGone = errors.New("secclient: no channel to sec-mod")

// Client is a worker's half of its channel to sec-mod.
type Client struct {
	conn atomic.Pointer[ipc.Conn]

	mu   sync.Mutex // one request at a time
	gone error      // once set, every request fails with it, until Replace

	signs *rate.Limiter // for ways; nil: there was no WaySigner yet

	stats stats
}

// New takes over the channel.
func New(conn *ipc.Conn) *Client {
	c := new(Client)
	c.conn.Store(conn)
	return c
}

// Close closes the channel. Whoever waits for an answer gets ErrGone.
func (c *Client) Close() error { return c.conn.Load().Close() }

// Replace takes over the channel to another sec-mod, since the one before died:
// whoever still waits for that one's answer gets ErrGone.
func (c *Client) Replace(conn *ipc.Conn) {
	c.conn.Swap(conn).Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = nil
}

// call is one request and its answer.
func (c *Client) call(t ipc.Type, req ipc.Message, want ipc.Type, rep ipc.Message) error {
	return c.ask(func(conn *ipc.Conn) error { return conn.Call(t, req, want, rep) })
}

// ask does one request. After an error the channel is of no use: nobody knows
// whose the next answer would be.
func (c *Client) ask(request func(*ipc.Conn) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != nil {
		return c.gone
	}
	conn := c.conn.Load()
	if err := request(conn); err != nil {
		conn.Close()
		c.gone = fmt.Errorf("%w: %w", ErrGone, err)
		return c.gone
	}
	return nil
}

// AuthInit begins a login; the reply's status says how it goes on, its sid is
// for AuthCont, and with AUTH_OK it is the cookie.
func (c *Client) AuthInit(req *ipc.AuthInit) (*ipc.AuthReply, error) {
	rep := new(ipc.AuthReply)
	if err := c.call(ipc.AuthInitT, req, ipc.AuthReplyT, rep); err != nil {
		return nil, err
	}
	return rep, nil
}

// AuthCont answers the question of the login of that SID, which must have 32
// bytes. It clears the password.
func (c *Client) AuthCont(sid, password []byte) (*ipc.AuthReply, error) {
	defer clear(password)
	rep := new(ipc.AuthReply)
	if err := c.call(ipc.AuthContT, &ipc.AuthCont{Sid: sid, Password: password}, ipc.AuthReplyT, rep); err != nil {
		return nil, err
	}
	return rep, nil
}

// AskKDC takes what a client posted to a path of kkdcp to a KDC and returns the
// answer; empty without error: there is none.
func (c *Client) AskKDC(vhost, path string, message []byte) (answer []byte, err error) {
	rep := new(ipc.KDCRep)
	if err := c.call(ipc.KDCT, &ipc.KDCReq{Vhost: vhost, Path: path, Message: message}, ipc.KDCRepT, rep); err != nil {
		return nil, err
	}
	return rep.Message, nil
}

// Browse says what a browser has brought that belongs to another worker's login.
func (c *Client) Browse(req *ipc.Browse) (*ipc.Browsed, error) {
	rep := new(ipc.Browsed)
	if err := c.call(ipc.BrowseT, req, ipc.BrowsedT, rep); err != nil {
		return nil, err
	}
	return rep, nil
}

// Profile returns the profile of the user whose cookie this is, empty if he has
// none; nil without error: the cookie is not good.
func (c *Client) Profile(sid, certificateSHA256 []byte) (profile []byte, err error) {
	err = c.ask(func(conn *ipc.Conn) (err error) {
		profile, err = conn.CallSealed(ipc.ProfileT, &ipc.ProfileReq{Sid: sid, CertificateSha256: certificateSHA256}, ipc.ProfileRepT)
		return err
	})
	return profile, err
}

// ResumeSeal turns TLS session state into a ticket for tls.Config.WrapSession.
// A nil ticket without error says that the state is not to be resumed (it is
// too long).
func (c *Client) ResumeSeal(vhost string, state []byte) (ticket []byte, err error) {
	return c.resume(ipc.ResumeSealT, vhost, state)
}

// ResumeOpen turns a ticket back into TLS session state for
// tls.Config.UnwrapSession; nil without error is a ticket that is not good
// here (expired, another virtual host, another client address).
func (c *Client) ResumeOpen(vhost string, ticket []byte) (state []byte, err error) {
	return c.resume(ipc.ResumeOpenT, vhost, ticket)
}

func (c *Client) resume(t ipc.Type, vhost string, data []byte) ([]byte, error) {
	rep := new(ipc.ResumeRep)
	if err := c.call(t, &ipc.ResumeReq{Vhost: vhost, Data: data}, ipc.ResumeRepT, rep); err != nil {
		return nil, err
	}
	return rep.Data, nil
}
