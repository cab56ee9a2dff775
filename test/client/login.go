package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"

	"rocserv/worker/cstp"
)

// Config is whom to connect to, and how.
type Config struct {
	Server         string // HOST:PORT
	User, Password string
	Cookie         string // of an earlier login; then User and Password are not used
	DTLS           bool
	// Receive takes the packets that come, in batches. It may keep nothing of
	// them. CSTP and DTLS have a goroutine each. Nil: they are only counted.
	Receive func(pkts [][]byte)
}

const (
	userAgent = "Open AnyConnect VPN Agent v9.01"
	formTries = 4 // ocserv asks for the user and the password one by one
)

// ErrLogin is returned when the server does not let the user in.
var ErrLogin = errors.New("client: login failed")

// web is the TLS connection while HTTP is spoken on it.
type web struct {
	host string
	raw  *cstp.Conn
	tls  *tls.Conn
	in   *bufio.Reader
}

func dialWeb(ctx context.Context, server string) (*web, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	w := &web{host: server, raw: cstp.NewConn(conn)}
	offer := Offer()
	offer.DynamicRecordSizingDisabled = true
	w.tls = tls.Client(w.raw, offer)
	if err := w.tls.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	w.in = bufio.NewReader(w.tls)
	return w, nil
}

// ask sends a request and reads the answer; of CONNECT only its head.
func (w *web) ask(method, target, body string, fields ...string) (*http.Response, string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n", method, target, w.host, userAgent)
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Type: application/xml; charset=utf-8\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	if _, err := io.WriteString(w.tls, b.String()); err != nil {
		return nil, "", err
	}
	resp, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil || method == http.MethodConnect {
		return resp, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

const (
	xmlHead   = `<?xml version="1.0" encoding="UTF-8"?>`
	loginInit = xmlHead + `<config-auth client="vpn" type="init" aggregate-auth-version="2"><version who="vpn">v9.01</version><device-id>linux-64</device-id></config-auth>`
)

// formInput is an input of a form: its type and name.
var formInput = regexp.MustCompile(`<input [^>]*type="(text|password)"[^>]*name="([^"]+)"|<input [^>]*name="([^"]+)"[^>]*type="(text|password)"`)

// login fills in the forms of the server until it gives a cookie.
func (w *web) login(user, password string) (cookie string, err error) {
	aggregate := "X-Aggregate-Auth: 1"
	resp, form, err := w.ask(http.MethodPost, "/", loginInit, "X-Transcend-Version: 1", aggregate)
	var context []string
	for range formTries {
		if err != nil {
			return "", err
		}
		for _, c := range resp.Cookies() {
			switch c.Name {
			case "webvpn":
				if c.Value != "" {
					return c.Value, nil
				}
			case "webvpncontext":
				context = []string{"Cookie: webvpncontext=" + c.Value}
			}
		}
		if resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("%w: %s", ErrLogin, resp.Status)
		}
		reply := fill(form, user, password)
		if reply == "" {
			return "", fmt.Errorf("%w: a form that asks for nothing we know: %s", ErrLogin, form)
		}
		resp, form, err = w.ask(http.MethodPost, "/auth", xmlHead+
			`<config-auth client="vpn" type="auth-reply" aggregate-auth-version="2"><auth>`+reply+`</auth></config-auth>`,
			append(context, aggregate)...)
	}
	return "", fmt.Errorf("%w: asked %d times", ErrLogin, formTries)
}

// fill answers what a form asks for.
func fill(form, user, password string) (reply string) {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	for _, m := range formInput.FindAllStringSubmatch(form, -1) {
		switch name := m[2] + m[3]; name {
		case "username":
			reply += "<username>" + escape.Replace(user) + "</username>"
		case "password":
			reply += "<password>" + escape.Replace(password) + "</password>"
		}
	}
	return reply
}

// Login logs in and returns the cookie of the session.
func Login(ctx context.Context, c Config) (string, error) {
	w, err := dialWeb(ctx, c.Server)
	if err != nil {
		return "", err
	}
	defer w.raw.Close()
	stop := context.AfterFunc(ctx, func() { w.raw.Close() })
	defer stop()
	return w.login(c.User, c.Password)
}
