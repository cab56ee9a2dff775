package secmod

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

var errFileName = errors.New("name cannot be that of a file")

// userConfig merges the configuration of a user at the moment: what the
// virtual host says, over it the group's file, over it the user's own (ocserv,
// sup-config/file.c), over it what the login method granted. Any error refuses the session: a file that is wrong
// somewhere may restrict somewhere else.
func (s *server) userConfig(v *config.Vhost, a session.Account) (*config.User, error) {
	u := v.User
	for _, layer := range [...]struct{ dir, name, fallback string }{
		{v.ConfigPerGroup, a.Group, v.DefaultGroupConfig},
		{v.ConfigPerUser, a.User, v.DefaultUserConfig},
	} {
		if layer.name == "" { // no group
			continue
		}
		file, b, err := readUserFile(layer.dir, layer.name, layer.fallback)
		if err != nil {
			return nil, err
		}
		if file == "" {
			continue
		}
		var problems []config.Problem
		if u, problems, err = config.ParseUserFile(file, b, u); err != nil {
			return nil, err
		}
		if len(problems) > 0 {
			if skipped, ok := s.quiet.sessions.allow(s.Now()); ok {
				s.Log.Warn("user configuration", "first", problems[0], "problems", len(problems), "skipped", skipped)
			}
		}
	}
	granted, err := readGrant(a.Granted)
	if err != nil {
		return nil, err
	}
	granted.apply(&u)
	u = v.WithVhostRoutes(u)
	return &u, nil
}

// readUserFile reads the file of that name in a directory, or the fallback if
// there is none. The name it returns is empty if nothing is configured.
func readUserFile(dir, name, fallback string) (file string, b []byte, err error) {
	if dir != "" {
		if !config.SafeFileName(name) {
			return "", nil, errFileName
		}
		file = filepath.Join(dir, name)
		b, err = readIn(dir, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, b, err
		}
		if _, err := os.Stat(dir); err != nil {
			return "", nil, err // a directory that is gone is no user without a file
		}
	}
	if fallback == "" {
		return "", nil, nil
	}
	b, err = readBounded(fallback, config.MaxUserFile)
	return fallback, b, err
}

// readIn reads a file of a directory by a name without slashes; a symbolic
// link is an error, so that the name of a user reaches nothing else.
func readIn(dir, name string) ([]byte, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	// O_NONBLOCK: a FIFO of that name must not hold up the open.
	fd, err := unix.Openat(int(d.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "openat", Path: filepath.Join(dir, name), Err: err}
	}
	f := os.NewFile(uintptr(fd), filepath.Join(dir, name))
	defer f.Close()
	return readAll(f, config.MaxUserFile)
}

// sessionConfig is a user's configuration as the worker gets it.
func sessionConfig(c *config.Config, v *config.Vhost, u *config.User, a session.Account, clientHostname string, files *egressFiles) *ipc.SessionConfig {
	expand := strings.NewReplacer("%{U}", a.User, "%{G}", a.Group)
	m := &ipc.SessionConfig{
		Routes: config.RouteStrings(u.Routes), NoRoutes: config.RouteStrings(u.NoRoutes),
		SplitDns: u.SplitDNS, DefaultDomain: v.DefaultDomain,
		TunnelAllDns: u.TunnelAllDNS || len(u.Routes) == 0,

		Mtu: uint32(u.MTU), DpdS: seconds(u.DPD), MobileDpdS: seconds(u.MobileDPD), KeepaliveS: seconds(u.Keepalive),
		RekeyS: seconds(v.RekeyTime), RekeyNewTunnel: v.RekeyNewTunnel,
		IdleTimeoutS: seconds(u.IdleTimeout), MobileIdleTimeoutS: seconds(u.MobileIdleTimeout),
		SessionTimeoutS: seconds(u.SessionTimeout), StatsReportS: seconds(u.StatsReport), SwitchToTcpS: seconds(v.SwitchToTCP),
		CookieTimeoutS: seconds(v.CookieTimeout),

		Banner: v.Banner, NoUdp: u.NoUDP, Hostname: clientHostname, ProxyUrl: expand.Replace(v.ProxyURL),
		ClientBypass: u.ClientBypass, Dyndns: v.ListenDynDNS,
		RestrictToRoutes: u.RestrictToRoutes, PortsDeny: u.PortsDeny,
		RxBytesPerS: u.RxPerSec, TxBytesPerS: u.TxPerSec, NetPriority: int32(u.NetPriority),
		TryMtuDiscovery: v.TryMTUDiscovery, OutputBuffer: uint32(v.OutputBuffer),
		Egress: egressOf(&c.Global, u, a, files),
		Limits: limitsOf(&u.Flows), FullCone: u.Flows.FullCone, ClientToClient: u.ClientToClient,
	}
	for _, r := range u.IRoutes {
		m.Iroutes = append(m.Iroutes, ipc.PutPrefix(r))
	}
	if u.Hostname != "" {
		m.Hostname = u.Hostname
	}
	for _, d := range u.DNS {
		m.Dns = append(m.Dns, ipc.PutAddr(d))
	}
	for _, n := range u.NBNS {
		m.Nbns = append(m.Nbns, ipc.PutAddr(n))
	}
	for _, h := range v.CustomHeaders {
		m.CustomHeaders = append(m.CustomHeaders, expand.Replace(h))
	}
	for _, p := range u.Ports {
		m.Ports = append(m.Ports, &ipc.PortRule{Proto: p.Proto, Port: uint32(p.Port)})
	}
	return m
}

func limitsOf(f *config.Flows) *ipc.Limits {
	return &ipc.Limits{
		TcpFlows: uint32(f.TCP), UdpFlows: uint32(f.UDP), IcmpFlows: uint32(f.ICMP),
		Dials: uint32(f.Dials), BufferBytes: uint64(f.Buffers), NewFlowsPerS: uint32(f.PerSecond),
	}
}

// clientName cleans what a client calls itself: it goes into a header and into
// the environment of scripts.
func clientName(s string) string {
	const most = 64
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	for len(s) > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// seconds rounds up: a limit of half a second is not none.
func seconds(d time.Duration) uint32 {
	return uint32((d + time.Second - 1) / time.Second)
}
