package secmod

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
)

// Check loads a configuration as sec-mod does, and reads what sessions would:
// the files of users and groups; what login helpers read it does not. The error is about what keeps the server from
// starting; warnings are about what keeps somebody out. It is for a process
// that ends then, with keys in its memory.
func Check(name string, text []byte) (warnings []string, err error) {
	s := newServer(Options{Log: slog.New(slog.DiscardHandler)})
	l := s.newLoader()
	_, err = l.load(&ipc.SecmConfig{Generation: 1, Name: name}, text)
	if l.gen == nil {
		return nil, err
	}
	for _, c := range l.gen.config.Vhosts {
		l.checkGroups(l.gen.vhosts[c.Name])
		var groups, users carriers
		l.checkFolder(c, "config-per-group", c.ConfigPerGroup, &groups)
		l.checkFolder(c, "config-per-user", c.ConfigPerUser, &users)
		l.checkFallback(c, "default-group-config", c.DefaultGroupConfig, &groups)
		l.checkFallback(c, "default-user-config", c.DefaultUserConfig, &users)
		l.checkCarriers(&groups, &users)
		l.checkCarriers(&users, &groups)
	}
	return l.warnings, err
}

// carriers are files of users, or of groups, as to networks behind clients.
type carriers struct {
	open   bool     // one of them has client-to-client
	closed []string // those with iroute and without it
}

func (c *carriers) add(file string, u *config.User) {
	c.open = c.open || u.ClientToClient
	if len(u.IRoutes) > 0 && !u.ClientToClient {
		c.closed = append(c.closed, file)
	}
}

// checkCarriers says which networks nobody reaches. The other kind of files may
// give a client what these do not.
func (l *loader) checkCarriers(c, others *carriers) {
	if others.open {
		return
	}
	for _, file := range c.closed {
		l.warnings = append(l.warnings, file+": iroute has no effect without client-to-client = true")
	}
}

// checkGroups says which groups are offered that nobody is in, where that can
// be known.
func (l *loader) checkGroups(v *vhost) {
	elsewhere := func(w way) bool { _, here := w.method.(*plain); return !here }
	if v.CertGroupOID != "" || slices.ContainsFunc(v.ways, elsewhere) {
		return // others know who is in which group; and what cannot be loaded has been said
	}
	known := map[string]bool{}
	for _, g := range v.groups() {
		known[g.Name] = true
	}
	for i, g := range v.SelectGroups {
		if !known[g.Name] {
			l.warn(v.Vhost, "select-group", i, fmt.Sprintf("select-group: nobody is in the group '%s'", g.Name))
		}
	}
}

// checkFolder reads all files of a folder of users or groups.
func (l *loader) checkFolder(c *config.Vhost, option, dir string, all *carriers) {
	if dir == "" {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		l.warn(c, option, 0, fmt.Sprintf("%s: %v: no session can be opened", option, err))
		return
	}
	holders := map[netip.Addr]string{}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		file := filepath.Join(dir, e.Name())
		b, err := readIn(dir, e.Name())
		if err != nil {
			l.warnings = append(l.warnings, fmt.Sprintf("%v: its sessions are refused", err))
			continue
		}
		u, ok := l.checkFile(c, file, b)
		if !ok {
			continue
		}
		all.add(file, &u)
		for _, a := range []netip.Addr{u.ExplicitIPv4, u.ExplicitIPv6} {
			if other := holders[a]; a.IsValid() && other != "" {
				l.warnings = append(l.warnings, fmt.Sprintf("%s: %v is the address of %s too: only one of them can have a session", file, a, other))
			}
			holders[a] = file
		}
	}
}

func (l *loader) checkFallback(c *config.Vhost, option, name string, all *carriers) {
	if name == "" {
		return
	}
	b, err := readBounded(name, config.MaxUserFile)
	if err != nil {
		l.warn(c, option, 0, fmt.Sprintf("%s: %v: sessions that need it are refused", option, err))
		return
	}
	if u, ok := l.checkFile(c, name, b); ok {
		all.add(name, &u)
	}
}

// checkFile reads the file of one user or group.
func (l *loader) checkFile(c *config.Vhost, file string, b []byte) (u config.User, ok bool) {
	u, problems, err := config.ParseUserFile(file, b, c.User)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			l.warnings = append(l.warnings, line+": its sessions are refused")
		}
		return u, false
	}
	for _, p := range problems {
		l.warnings = append(l.warnings, p.String())
	}
	for _, e := range []struct {
		option string
		addr   netip.Addr
		in     netip.Prefix
	}{{"explicit-ipv4", u.ExplicitIPv4, u.IPv4Network}, {"explicit-ipv6", u.ExplicitIPv6, u.IPv6Network}} {
		if e.addr.IsValid() && !e.in.Contains(e.addr) {
			l.warnings = append(l.warnings, fmt.Sprintf("%s: %s = %v is outside of the network %v: its sessions are refused", file, e.option, e.addr, e.in))
		}
	}
	if len(u.Routes) > len(c.User.Routes) || len(u.NoRoutes) > len(c.User.NoRoutes) { // the virtual host's own have been said
		l.warnRoutes(c, file, c.WithVhostRoutes(u))
	}
	return u, true
}
