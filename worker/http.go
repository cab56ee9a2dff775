package worker

import (
	"errors"
	"io"
	"os"
	"time"

	"rocserv/internal/slack"
	"rocserv/internal/wire"
)

// errTooLong is the end of a login by auth-timeout.
var errTooLong = errors.New("authentication took too long")

// login answers requests until the client opens the tunnel, which is returned,
// or goes away (nil without an error).
func (c *client) login() (*wire.Connect, error) {
	deadline := c.id.start.Add(time.Duration(c.cfg.AuthTimeoutS) * time.Second)
	c.raw.SetDeadline(deadline)
	c.raw.Erase(true) // passwords
	defer c.raw.Erase(false)
	reader := wire.NewReader(c.secure.conn)
	dialogue := newDialogue(c)
	for {
		req, err := reader.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errTooLong
		}
		if err != nil {
			return nil, err
		}
		c.Log.Debug("request", "request", req.String())
		if !c.secure.hiding.admits(c.secure.vhost, req) {
			req.Clear()
			return nil, c.reply(req, stranger(c.secure.vhost))
		}
		if req.IsTunnel() || req.Method == "CONNECT" && req.IsPhone() && c.secure.vhost.Phones {
			connect, err := wire.ParseConnect(req)
			if err == nil {
				c.raw.SetDeadline(time.Time{})
				return connect, nil
			}
			c.Log.Info("CONNECT refused", "err", err)
			return nil, c.reply(req, c.secure.unacceptable())
		}
		rep := dialogue.answer(req)
		req.Clear()
		if c.secure.hiding.cookieOnly && rep.Status != 200 && rep.Status != 302 {
			return nil, c.reply(req, stranger(c.secure.vhost))
		}
		if err := c.reply(req, rep); err != nil || rep.Close || req.Close {
			return nil, err
		}
		slack.Restore() // before a password comes; nothing the second time
	}
}

// reply sends a reply with the operator's own headers.
func (c *client) reply(req *wire.Request, rep *wire.Response) error {
	for _, line := range c.secure.vhost.HttpHeaders {
		if f, err := wire.ParseField(line); err == nil {
			rep.Header = append(rep.Header, f)
		}
	}
	rep.Close = rep.Close || req.Close
	b, err := rep.Append(nil)
	if err != nil {
		return err
	}
	_, err = c.secure.conn.Write(b)
	clear(b) // a cookie may have been in it
	return err
}

// unacceptable is the answer to a cookie that is not good (ocserv worker-vpn.c).
// Who has said nothing but a cookie that could be made up is not told that it
// was one.
func (s *secured) unacceptable() *wire.Response {
	if s.hiding.cookieOnly {
		return wire.NotAllowed()
	}
	return wire.Unauthorized("Cookie is not acceptable")
}
