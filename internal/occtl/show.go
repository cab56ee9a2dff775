package occtl

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"rocserv/internal/control"
)

// userFields are the fields of show user, in ocserv's order.
func (s *session) userFields(t *control.Session) []field {
	up := s.Now().Sub(t.Connected)
	traffic := t.Traffic
	fields := []field{
		num("ID", t.ID),
		str("Username", none(t.User)), beside(str("Groupname", none(t.Group))),
		str("State", t.State),
		str("vhost", vhostName(t.Vhost)),
		str("Device", t.Device), beside(mtu(t.MTU)),
		str("Remote IP", t.RemoteIP), beside(str("Location", "unknown")),
		str("Local Device IP", t.LocalIP),
		str("IPv4", t.IPv4), beside(str("P-t-P IPv4", t.IPv4PtP)),
		str("IPv6", t.IPv6), beside(str("P-t-P IPv6", t.IPv6PtP)),
		str("User-Agent", t.UserAgent),
		str("Limit RX", limit(t.Config.LimitRX)), beside(str("Limit TX", limit(t.Config.LimitTX))),
		bytesField("RX", traffic.RX), beside(bytesField("TX", traffic.TX)), only("_RX", human(traffic.RX)), only("_TX", human(traffic.TX)),
		both("Average bandwidth RX", rate(traffic.RX, up), nil), beside(both("TX", rate(traffic.TX, up), nil)),
		only("Average RX", rate(traffic.RX, up)), only("Average TX", rate(traffic.TX, up)),
		only("raw_total_rx", traffic.TotalRX), only("raw_total_tx", traffic.TotalTX),
		both("DPD", strconv.Itoa(t.Config.DPD), strconv.Itoa(t.Config.DPD)), beside(str("KeepAlive", strconv.Itoa(t.Config.Keepalive))),
		str("Hostname", t.Hostname),
		both("Last connected at", date(t.Connected)+" ("+interval(up)+")", date(t.Connected)), only("_Last connected at", interval(up)),
		both("Session started at", date(t.Login)+" ("+interval(s.Now().Sub(t.Login))+")", date(t.Login)),
		only("_Session started at", interval(s.Now().Sub(t.Login))),
		only("raw_connected_at", t.Connected.Unix()), only("raw_session_started_at", t.Login.Unix()),
		only("Full session", t.Session),
		str("Session", short(t.Session)),
		str("TLS ciphersuite", t.Channel.TLS),
		str("DTLS cipher", t.Channel.DTLS),
		str("CSTP compression", t.Channel.CSTPCompression), beside(str("DTLS compression", t.Channel.DTLSCompression)),
	}
	return append(fields, configFields(&t.Config)...)
}

func configFields(c *control.Config) []field {
	ports := many("Restricted to ports", c.RestrictedToPorts)
	ports.many, ports.text = true, ""
	fields := []field{
		after("\n", many("DNS", c.DNS)),
		many("NBNS", c.NBNS),
		many("Split-DNS-Domains", c.SplitDNS),
		routes(c.Routes),
		many("No-routes", c.NoRoutes),
		many("iRoutes", c.IRoutes),
		str("Restricted to routes", truth(c.RestrictedToRoutes)),
	}
	list := []string{}
	for _, p := range c.RestrictedToPorts {
		list = append(list, clean(p))
	}
	return append(fields, both("Restricted to ports", strings.Join(list, ", "), list))
}

// routes names the default route where there is no other.
func routes(list []string) field {
	if len(list) == 0 {
		return str("Routes", "defaultroute")
	}
	return many("Routes", list)
}

func mtu(n int) field {
	if n == 0 {
		return field{}
	}
	return str("MTU", strconv.Itoa(n))
}

// bytesField is a counter: in JSON ocserv quotes it.
func bytesField(name string, n uint64) field {
	text := strconv.FormatUint(n, 10)
	return both(name, text+" ("+human(n)+")", text)
}

// find asks for tunnels.
func (s *session) find(t control.Target) ([]control.Session, int) {
	var found control.Sessions
	if err := s.call(control.CmdSessions, t, &found); err != nil {
		return nil, s.fail(err)
	}
	return found.Sessions, statusOK
}

func (s *session) showUser(name string) int { return s.showTunnels(control.Target{User: name}) }

func (s *session) showID(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil || n <= 0 {
		n = -1 // nobody's
	}
	return s.showTunnels(control.Target{ID: n})
}

func (s *session) showTunnels(t control.Target) int {
	found, status := s.find(t)
	if status != statusOK {
		return status
	}
	if len(found) == 0 && !s.json {
		fmt.Fprintln(s.Err, "user or ID not found")
		return statusNotFound
	}
	s.page(func(w io.Writer) {
		var all [][]field
		for i := range found {
			all = append(all, s.userFields(&found[i]))
		}
		if s.json {
			writeObjects(w, all)
			return
		}
		for i, f := range all {
			if i > 0 {
				fmt.Fprintln(w)
			}
			writeText(w, f)
		}
	})
	if len(found) == 0 {
		return statusNotFound
	}
	return statusOK
}

func (s *session) showUsers(string) int {
	found, status := s.find(control.Target{})
	if status != statusOK {
		return status
	}
	s.page(func(w io.Writer) { s.writeUsers(w, found) })
	return statusOK
}

func (s *session) writeUsers(w io.Writer, found []control.Session) {
	if s.json {
		var all [][]field
		for i := range found {
			all = append(all, s.userFields(&found[i]))
		}
		writeObjects(w, all)
		return
	}
	if len(found) == 0 {
		return
	}
	fmt.Fprintf(w, "%8s %8s %8s %14s %14s %6s %7s %14s %9s\n", "id", "user", "vhost", "ip", "vpn-ip", "device", "since", "dtls-cipher", "status")
	for _, t := range found {
		fmt.Fprintf(w, "%8d %8s %8s %14s %14s %6s %s %14s %9s\n", t.ID, clean(none(t.User)), clean(vhostName(t.Vhost)), t.RemoteIP,
			vpnIP(&t), clean(t.Device), interval(s.Now().Sub(t.Connected)), cipher(clean(t.Channel.DTLS)), t.State)
	}
}

func vpnIP(t *control.Session) string {
	if t.IPv4 != "" {
		return t.IPv4
	}
	return t.IPv6
}

func (s *session) showIRoutes(string) int {
	found, status := s.find(control.Target{})
	if status != statusOK {
		return status
	}
	s.page(func(w io.Writer) {
		if s.json {
			var all [][]field
			for _, t := range found {
				all = append(all, []field{
					num("ID", t.ID), str("Username", none(t.User)), str("vhost", vhostName(t.Vhost)), str("Device", t.Device),
					str("IP", vpnIP(&t)), many("iRoutes", t.Config.IRoutes),
				})
			}
			writeObjects(w, all)
			return
		}
		fmt.Fprintf(w, "%6s %8s %8s %6s %16s %28s\n", "id", "user", "vhost", "device", "vpn-ip", "iroute")
		for _, t := range found {
			for _, r := range t.Config.IRoutes {
				fmt.Fprintf(w, "%6d %8s %8s %6s %16s %28s\n", t.ID, clean(none(t.User)), clean(vhostName(t.Vhost)), clean(t.Device), vpnIP(&t), r)
			}
		}
	})
	return statusOK
}

// cookieFields are the fields of show session.
func (s *session) cookieFields(c *control.Cookie) []field {
	expires := field{}
	if !c.Expires.IsZero() {
		expires = str("Expires", date(c.Expires))
	}
	return []field{
		str("Session", short(c.Session)),
		only("Full session", c.Session), both("Full session ID", c.Session, nil),
		str("Created", date(c.Created)), beside(expires),
		str("State", c.State),
		str("Username", none(c.User)), beside(str("Groupname", none(c.Group))),
		str("vhost", vhostName(c.Vhost)), beside(str("User-Agent", c.UserAgent)),
		str("Remote IP", c.RemoteIP), beside(str("Location", "unknown")),
		only("session_is_open", number(c.Opened)), only("tls_auth_ok", number(c.TLSAuth)), only("in_use", c.InUse),
		both("In use", truth(c.InUse > 0), nil), both("Activated", truth(c.Opened), nil), both("Certificate auth", truth(c.TLSAuth), nil),
	}
}

func (s *session) showSessions(valid bool) int {
	var all control.Cookies
	if err := s.call(control.CmdCookies, control.CookiesArgs{Valid: valid}, &all); err != nil {
		return s.fail(err)
	}
	s.page(func(w io.Writer) {
		if s.json {
			s.writeCookies(w, all.Cookies)
			return
		}
		fmt.Fprintf(w, "%6s %8s %8s %14s %24s %8s %8s\n", "session", "user", "vhost", "ip", "user agent", "created", "status")
		for _, c := range all.Cookies {
			fmt.Fprintf(w, "%6s %8s %8s %14s %.24s %8s %8s\n", short(c.Session), clean(none(c.User)), clean(vhostName(c.Vhost)), c.RemoteIP,
				fmt.Sprintf("%24s", clean(c.UserAgent)), interval(s.Now().Sub(c.Created)), c.State)
		}
	})
	return statusOK
}

func (s *session) writeCookies(w io.Writer, list []control.Cookie) {
	var all [][]field
	for i := range list {
		all = append(all, s.cookieFields(&list[i]))
	}
	writeObjects(w, all)
}

func (s *session) showSession(sid string) int {
	var all control.Cookies
	if err := s.call(control.CmdCookies, control.CookiesArgs{Session: sid}, &all); err != nil {
		return s.fail(err)
	}
	s.page(func(w io.Writer) {
		if s.json {
			s.writeCookies(w, all.Cookies)
			return
		}
		for i := range all.Cookies {
			writeText(w, s.cookieFields(&all.Cookies[i]))
		}
	})
	if len(all.Cookies) == 0 && !s.json {
		fmt.Fprintln(s.Err, "Session ID not found or expired")
	}
	return statusOK
}

func (s *session) showBans(points bool) int {
	var all control.Bans
	if err := s.call(control.CmdBans, nil, &all); err != nil {
		return s.fail(err)
	}
	s.page(func(w io.Writer) {
		var objects [][]field
		var rows []string
		for _, b := range all.Bans {
			score := field{name: "Score", json: b.Score}
			switch {
			case points:
				objects = append(objects, []field{str("IP", b.IP), score})
				rows = append(rows, fmt.Sprintf("%15s %10d\n", b.IP, b.Score))
			case b.Banned:
				left := interval(b.Expires.Sub(s.Now()))
				objects = append(objects, []field{str("IP", b.IP), str("Since", date(b.Expires)), only("_Since", left), score})
				rows = append(rows, fmt.Sprintf("%15s %10d %30s\n", b.IP, b.Score, date(b.Expires)+" ("+left+")"))
			}
		}
		if s.json {
			writeObjects(w, objects)
			return
		}
		if len(rows) == 0 {
			return
		}
		if points {
			fmt.Fprintf(w, "%15s %10s\n", "IP", "score")
		} else {
			fmt.Fprintf(w, "%15s %10s %30s\n", "IP", "score", "expires")
		}
		fmt.Fprint(w, strings.Join(rows, ""))
	})
	return statusOK
}

// showEvents prints who is connected, and then who comes and goes, until the
// connection ends or, on a terminal, q is said.
func (s *session) showEvents(string) int {
	c, err := control.Dial(s.places...)
	if err != nil {
		return s.fail(err)
	}
	defer c.Close()
	if err := c.Listen(); err != nil {
		return s.fail(err)
	}
	found, status := s.find(control.Target{})
	if status != statusOK {
		return status
	}
	if s.json {
		for i := range found {
			s.writeEvent(s.userFields(&found[i]))
		}
	} else {
		s.writeUsers(s.Out, found)
		fmt.Fprintln(s.Out)
	}
	stopped := s.untilQuit(c)
	for {
		e, err := c.Next()
		if err != nil {
			select {
			case <-stopped:
				return statusOK
			default:
				return s.fail(err)
			}
		}
		s.showEvent(e)
	}
}

func (s *session) writeEvent(fields []field) {
	writeJSON(s.Out, fields)
	fmt.Fprintln(s.Out)
}

func (s *session) showEvent(e control.Event) {
	t := e.Session
	if t == nil || e.Type != control.EventConnected && e.Type != control.EventDisconnected {
		if e.Type == control.EventLost {
			fmt.Fprintf(s.Err, "note: %d events were missed\n", e.Lost)
		}
		return
	}
	if s.json {
		fields := append([]field{only("Event", e.Type)}, s.userFields(t)...)
		if e.Type == control.EventDisconnected {
			fields = append(fields, only("Reason", e.Reason), only("raw_session_time", int64(e.Duration)))
		}
		s.writeEvent(fields)
		return
	}
	vhost, user := clean(vhostName(t.Vhost)), clean(none(t.User))
	if e.Type == control.EventConnected {
		fmt.Fprintf(s.Out, "%s: connected user '%s' (%d) from %s with IP %s\n", vhost, user, t.ID, t.RemoteIP, vpnIP(t))
		return
	}
	fmt.Fprintf(s.Out, "%s: disconnect user '%s' (%d) from %s with IP %s (reason: %s, time: %s)\n", vhost, user, t.ID, t.RemoteIP, vpnIP(t),
		clean(e.Reason), strings.TrimSpace(interval(seconds(e.Duration))))
}

// untilQuit closes the connection when q is said on a terminal. The channel
// says that it was.
func (s *session) untilQuit(c *control.Client) <-chan struct{} {
	stopped := make(chan struct{})
	if _, ok := terminal(s.In); !ok {
		return stopped
	}
	fmt.Fprintln(s.Err, "press 'q' and enter to quit")
	go func() {
		in := bufio.NewScanner(s.In)
		for in.Scan() {
			if strings.HasPrefix(strings.TrimSpace(in.Text()), "q") {
				close(stopped)
				c.Close()
				return
			}
		}
	}()
	return stopped
}

// showStatus prints the state of the server.
func (s *session) showStatus(string) int {
	var st control.Status
	if err := s.call(control.CmdStatus, nil, &st); err != nil {
		if s.json {
			s.writeEvent([]field{str("Status", "offline")})
		} else {
			fmt.Fprint(s.Out, "General info:\n\tStatus: offline\n")
		}
		return s.fail(err)
	}
	fields := s.statusFields(&st)
	s.page(func(w io.Writer) {
		if s.json {
			writeJSON(w, fields)
			fmt.Fprintln(w)
			return
		}
		writeText(w, fields)
		if s.debug {
			writeCounters(w, &st)
		}
	})
	return statusOK
}

func (s *session) statusFields(st *control.Status) []field {
	now, p := s.Now(), st.Period
	up := now.Sub(st.Started)
	return []field{
		after("General info:\n", str("Status", "online")),
		num("Server PID", st.PID), num("Sec-mod PID", st.SecModPID), num("Sec-mod instance count", 1),
		both("Up since", date(st.Started)+" ("+interval(up)+")", date(st.Started)), only("_Up since", interval(up)),
		only("raw_up_since", st.Started.Unix()), only("uptime", int64(up/time.Second)),
		num("Active sessions", st.ActiveSessions),
		num("Total sessions", st.Total.Sessions), num("Total authentication failures", st.Total.AuthFailures),
		num("IPs in ban list", st.Banned),

		after("\nCurrent stats period:\n", both("Last stats reset", date(p.Since)+" ("+interval(now.Sub(p.Since))+")", date(p.Since))),
		only("_Last stats reset", interval(now.Sub(p.Since))), only("raw_last_stats_reset", p.Since.Unix()),
		num("Sessions handled", p.Sessions), num("Timed out sessions", p.TimedOut), num("Timed out (idle) sessions", p.TimedOutIdle),
		num("Closed due to error sessions", p.Errors), num("Authentication failures", p.AuthFailures),
		span("Average auth time", p.AvgAuthTime), only("raw_avg_auth_time", int64(p.AvgAuthTime)),
		span("Max auth time", p.MaxAuthTime), only("raw_max_auth_time", int64(p.MaxAuthTime)),
		span("Average session time", p.AvgSessionTime), only("raw_avg_session_time", int64(p.AvgSessionTime)),
		span("Max session time", p.MaxSessionTime), only("raw_max_session_time", int64(p.MaxSessionTime)),
		mtuRange("Min MTU", p.MinMTU), mtuRange("Max MTU", p.MaxMTU),
		str("RX", human(p.RX)), only("raw_rx", p.RX), str("TX", human(p.TX)), only("raw_tx", p.TX),

		// Beyond ocserv's, in JSON only.
		only("Version", st.Version), only("Configuration generation", st.Generation), only("Away sessions", st.AwaySessions),
		only("Workers", st.Workers), only("raw_total_rx", st.Total.RX), only("raw_total_tx", st.Total.TX),
		only("Counters", st.Counters), only("Gauges", st.Gauges),
	}
}

func span(name string, s float64) field {
	text := interval(seconds(s))
	return both(name, text, text)
}

func mtuRange(name string, n int) field {
	if n == 0 {
		return field{}
	}
	return num(name, n)
}
