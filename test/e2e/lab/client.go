package lab

import (
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed vpnc.sh
var vpncScript string

// Device is the tunnel device of a client that names no other.
const Device = "oc0"

// connectLimit is how long a client may take from its start to its tunnel.
const connectLimit = 40 * time.Second

// Dial is an openconnect to start.
type Dial struct {
	From   Netns
	To     string   // HOST:PORT
	Query  string   // of the URL
	Pin    string   // of the server's certificate
	User   string   // empty: a login is not wanted, there is a cookie
	Input  []string // lines for standard input: passwords, or a cookie
	Typed  *os.File // standard input in place of Input: a user who takes his time
	Args   []string // more arguments
	Device string   // empty: Device
	Metric int      // of its routes, if there are several tunnels in the namespace
	Env    []string // of its environment, beside the lab's
}

// Client is an openconnect that runs.
type Client struct {
	*Process
	Device string
	From   Netns

	dir string
}

// Connect starts an openconnect. It does not wait for anything.
func (l *Lab) Connect(d Dial) (*Client, error) {
	c, err := l.newClient(d.From, d.Device)
	if err != nil {
		return nil, err
	}
	env := slices.Clone(d.Env)
	if d.Metric > 0 {
		env = append(env, "LAB_METRIC="+strconv.Itoa(d.Metric))
	}
	var in io.Reader = d.Typed
	if d.Typed == nil {
		in = strings.NewReader(d.input())
	}
	return c, c.start(in, env, d.command(c.options()...))
}

// ConnectLine starts an openconnect by a line of shell, on the host of the
// server itself: only the server's own network is reached through its tunnel.
func (l *Lab) ConnectLine(from Netns, line, password string) (*Client, error) {
	c, err := l.newClient(from, Device)
	if err != nil {
		return nil, err
	}
	line = "exec " + line + ` "$@"`
	argv := append([]string{"sh", "-c", line, "sh", "--passwd-on-stdin", "--non-inter"}, c.options()...)
	return c, c.start(strings.NewReader(password+"\n"), []string{"LAB_NARROW=1"}, argv)
}

// newClient makes the client's folder.
func (l *Lab) newClient(from Netns, device string) (*Client, error) {
	if device == "" {
		device = Device
	}
	dir, err := os.MkdirTemp(l.Dir, "client-")
	if err != nil {
		return nil, err
	}
	c := &Client{Device: device, From: from, dir: dir}
	return c, os.WriteFile(c.script(), []byte(vpncScript), 0o755)
}

func (c *Client) script() string { return c.dir + "/vpnc.sh" }

func (c *Client) options() []string {
	return []string{"-v", "--script", c.script(), "--interface", c.Device}
}

func (c *Client) start(in io.Reader, env, argv []string) (err error) {
	c.Process, err = c.From.Start("openconnect", in, append(env, "LAB_DIR="+c.dir), argv...)
	return err
}

// command is the command line, with these options in front.
func (d Dial) command(options ...string) []string {
	argv := append([]string{"openconnect", "--servercert", d.Pin}, options...)
	if d.User != "" {
		argv = append(argv, "--user", d.User)
	}
	if d.User != "" && len(d.Input) == 1 {
		argv = append(argv, "--passwd-on-stdin", "--non-inter")
	}
	url := "https://" + d.To + "/"
	if d.Query != "" {
		url += "?" + d.Query
	}
	return append(append(argv, d.Args...), url)
}

func (d Dial) input() string { return strings.Join(d.Input, "\n") + "\n" }

var cookieLine = regexp.MustCompile(`(?m)^COOKIE='(.*)'$`)

// Authenticate logs in without a tunnel and returns the cookie.
func Authenticate(d Dial) (string, error) {
	out, err := d.From.RunFor(connectLimit, d.input(), d.command("--authenticate")...)
	if err != nil {
		return "", err
	}
	m := cookieLine.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("no cookie in:\n%s", out)
	}
	return m[1], nil
}

// ServerAt is where the lab's server is, at one of its addresses.
func ServerAt(host string) string { return net.JoinHostPort(host, strconv.Itoa(Port)) }

// Lines of openconnect.
const (
	lineUp   = `^Configured as .*, with SSL`
	lineDTLS = `^Established DTLS connection`
)

// WaitUp waits until the tunnel is configured.
func (c *Client) WaitUp() error {
	if _, err := c.Expect(lineUp, connectLimit); err != nil {
		return err
	}
	return c.WaitScript("connect", connectLimit)
}

// Forget makes WaitScript wait for the next call.
func (c *Client) Forget(reason string) error {
	if err := os.Remove(c.envFile(reason)); !os.IsNotExist(err) {
		return err
	}
	return nil
}

// WaitScript waits until the script has been called for a reason and is done.
func (c *Client) WaitScript(reason string, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(c.envFile(reason))
		if err == nil {
			return nil
		}
		if !c.Running() || time.Now().After(deadline) {
			return fmt.Errorf("openconnect has not called its script to %s: %w", reason, err)
		}
	}
}

// WaitDTLS waits until the tunnel is configured and DTLS is up.
func (c *Client) WaitDTLS() error {
	if err := c.WaitUp(); err != nil {
		return err
	}
	_, err := c.Expect(lineDTLS, connectLimit)
	return err
}

// Quit ends the client as its user does, which also ends its session.
func (c *Client) Quit() (int, error) { return c.End(syscall.SIGINT, 10*time.Second) }

// Env is the environment that openconnect gave the script the last time it
// called it for a reason: "connect", "reconnect" and so on.
func (c *Client) Env(reason string) (map[string]string, error) {
	b, err := os.ReadFile(c.envFile(reason))
	if err != nil {
		return nil, fmt.Errorf("openconnect has not called its script to %s: %w", reason, err)
	}
	env := map[string]string{}
	for entry := range strings.SplitSeq(string(b), "\x00") {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	return env, nil
}

func (c *Client) envFile(reason string) string { return c.dir + "/env." + reason }

// Addresses are those of the tunnel, "" for a family it does not have.
func (c *Client) Addresses() (ip4, ip6 string, err error) {
	env, err := c.Env("connect")
	if err != nil {
		return "", "", err
	}
	ip6, _, _ = strings.Cut(env["INTERNAL_IP6_NETMASK"], "/")
	return env["INTERNAL_IP4_ADDRESS"], ip6, nil
}
