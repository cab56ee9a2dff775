package occtl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rocserv/internal/control"
)

// command is a row of the table.
type command struct {
	words string
	arg   string // what follows, for the help; empty: nothing may
	help  string
	alias bool // shown only where a command was begun
	run   func(*session, string) int
	names func(*session) []string // what the argument may be, for completion
}

// table is every command. A function, because help is one of them.
func table() []command {
	return []command{
		{words: "disconnect user", arg: "[NAME]", help: "Disconnect the specified user", run: (*session).disconnectUser, names: (*session).users},
		{words: "disconnect id", arg: "[ID]", help: "Disconnect the specified ID", run: (*session).disconnectID, names: (*session).ids},
		{words: "terminate user", arg: "[NAME]", help: "Invalidate all sessions of the specified user", run: (*session).terminateUser, names: (*session).users},
		{words: "terminate id", arg: "[ID]", help: "Invalidate the session of the specified ID", run: (*session).terminateID, names: (*session).ids},
		{words: "terminate session", arg: "[SID]", help: "Invalidate the specified session", run: (*session).terminateSession, names: (*session).sids},
		{words: "unban ip", arg: "[IP]", help: "Unban the specified IP", run: (*session).unban, names: (*session).banned},
		{words: "unlimit user", arg: "[NAME]", help: "Listen to logins of the specified user again", run: func(s *session, name string) int { return s.unlimit("user", name, control.UnlimitArgs{User: name}) }, names: (*session).limitedUsers},
		{words: "unlimit ip", arg: "[IP]", help: "Listen to logins from the specified IP again", run: func(s *session, ip string) int { return s.unlimit("IP", ip, control.UnlimitArgs{IP: ip}) }, names: (*session).limitedIPs},
		{words: "reload", help: "Reloads the server configuration", run: (*session).reload},
		{words: "upgrade", help: "Replaces the server's program, with all tunnels up", run: (*session).upgrade},
		{words: "why", arg: "[USER DESTINATION[:PORT] [--dial]]", help: "Says which rule and which way would serve the user's traffic there", run: (*session).why, names: (*session).users},
		{words: "show status", help: "Prints the status and statistics of the server", run: (*session).showStatus},
		{words: "show users", help: "Prints the connected users", run: (*session).showUsers},
		{words: "show ip bans", help: "Prints the banned IP addresses", run: func(s *session, _ string) int { return s.showBans(false) }},
		{words: "show ip ban points", help: "Prints all the known IP addresses which have points", run: func(s *session, _ string) int { return s.showBans(true) }},
		{words: "show limits", help: "Prints the users and IPs whose logins are refused after too many wrong passwords", run: (*session).showLimits},
		{words: "show iroutes", help: "Prints the routes provided by users of the server", run: (*session).showIRoutes},
		{words: "show sessions all", help: "Prints all the session IDs", run: func(s *session, _ string) int { return s.showSessions(false) }},
		{words: "show sessions valid", help: "Prints all the valid for reconnection sessions", run: func(s *session, _ string) int { return s.showSessions(true) }},
		{words: "show session", arg: "[SID]", help: "Prints information on the specified session", run: (*session).showSession, names: (*session).sids},
		{words: "show user", arg: "[NAME]", help: "Prints information on the specified user", run: (*session).showUser, names: (*session).users},
		{words: "show id", arg: "[ID]", help: "Prints information on the specified ID", run: (*session).showID, names: (*session).ids},
		{words: "show events", help: "Provides information about connecting users", run: (*session).showEvents},
		{words: "stop now", help: "Terminates the server", run: (*session).stop},
		{words: "reset", help: "Resets the screen and terminal", run: func(s *session, _ string) int { fmt.Fprint(s.Out, "\033c"); return statusOK }},
		{words: "help", help: "Prints this help", run: func(s *session, _ string) int {
			fmt.Fprintln(s.Out, "Available Commands")
			s.help("")
			return statusOK
		}},
		{words: "exit", help: "Exits this application", run: (*session).leave},
		{words: "?", alias: true, help: "Prints this help", run: func(s *session, _ string) int { return s.execute([]string{"help"}) }},
		{words: "quit", alias: true, help: "Exits this application", run: (*session).leave},
		{words: "stop", alias: true, help: "Alias for stop now", run: (*session).stop},
		{words: "show cookies all", alias: true, help: "Alias for show sessions all", run: func(s *session, _ string) int { return s.showSessions(false) }},
		{words: "show cookies valid", alias: true, help: "Alias for show sessions valid", run: func(s *session, _ string) int { return s.showSessions(true) }},
	}
}

// match finds the command that a line begins with; what follows is its argument.
func match(words []string) (c command, arg string, ok bool) {
	line := strings.Join(words, " ")
	for _, c := range table() {
		if rest, begins := strings.CutPrefix(line, c.words); begins && (rest == "" || rest[0] == ' ') {
			return c, strings.TrimSpace(rest), true
		}
	}
	return command{}, "", false
}

// help prints the commands that begin with these words and says whether there
// are any.
func (s *session) help(words string) (any bool) {
	for _, c := range table() {
		if !strings.HasPrefix(c.words+" ", words+" ") && words != "" || words == "" && c.alias {
			continue
		}
		any = true
		name := c.words
		if name == "help" {
			name = "help or ?"
		}
		if c.arg != "" {
			fmt.Fprintf(s.Out, " %12s %s\t%s\n", name, c.arg, c.help)
		} else {
			fmt.Fprintf(s.Out, " %16s\t%s\n", name, c.help)
		}
	}
	return any
}

// leave is for the prompt, which looks for these words itself.
func (s *session) leave(string) int { return statusOK }

func (s *session) reload(string) int {
	return s.order(control.CmdReload, "Server scheduled to reload")
}

func (s *session) stop(string) int { return s.order(control.CmdStop, "Server scheduled to stop") }

// How long a server that agreed to be replaced may take.
const (
	upgradeTime = 90 * time.Second
	upgradePoll = 100 * time.Millisecond
)

// upgrade has the server's program replaced and waits until the new one answers.
func (s *session) upgrade(string) int {
	var to control.Upgrade
	if err := s.callWithin(upgradeTime, control.CmdUpgrade, nil, &to); err != nil {
		return s.fail(err)
	}
	var last error
	for deadline := time.Now().Add(upgradeTime); time.Now().Before(deadline); time.Sleep(upgradePoll) {
		var st control.Status
		if last = s.call(control.CmdStatus, nil, &st); last == nil && st.Upgrades > to.Upgrades {
			fmt.Fprintf(s.Out, "Server upgraded to %s\n", clean(st.Version))
			return statusOK
		}
	}
	if last == nil {
		last = errors.New("the program was not replaced; see the server's log")
	}
	return s.fail(last)
}

func (s *session) order(cmd, done string) int {
	if err := s.call(cmd, nil, nil); err != nil {
		return s.fail(err)
	}
	fmt.Fprintln(s.Out, done)
	return statusOK
}

func (s *session) disconnectUser(name string) int {
	return s.end(control.CmdDisconnect, control.Target{User: name}, "user '"+name+"'", "disconnect", "was disconnected")
}

func (s *session) disconnectID(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil || n <= 0 {
		return s.cannot("disconnect", "ID '"+id+"'")
	}
	return s.end(control.CmdDisconnect, control.Target{ID: n}, "connection ID '"+id+"'", "disconnect", "was disconnected")
}

func (s *session) terminateUser(name string) int {
	return s.end(control.CmdTerminate, control.Target{User: name}, "user '"+name+"'", "terminate", "was terminated (session invalidated)")
}

func (s *session) terminateID(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil || n <= 0 {
		return s.cannot("terminate", "ID '"+id+"'")
	}
	return s.end(control.CmdTerminate, control.Target{ID: n}, "connection ID '"+id+"'", "terminate", "was terminated (session invalidated)")
}

func (s *session) terminateSession(sid string) int {
	return s.end(control.CmdTerminate, control.Target{Session: sid}, "session '"+short(sid)+"'", "terminate", "was terminated")
}

func (s *session) cannot(verb, whom string) int {
	fmt.Fprintf(s.Err, "could not %s %s\n", verb, clean(strings.TrimPrefix(whom, "connection ")))
	return statusFailed
}

// end ends sessions and says so as occtl does.
func (s *session) end(cmd string, t control.Target, whom, verb, done string) int {
	var ended control.Ended
	err := s.call(cmd, t, &ended)
	var e *control.Error
	switch {
	case is(err, control.NotFound):
		return s.cannot(verb, whom)
	case is(err, control.Ambiguous):
		e = err.(*control.Error)
		fmt.Fprintln(s.Err, clean(e.Message)+"; it can be:")
		for _, c := range e.Candidates {
			fmt.Fprintf(s.Err, "\t%s\n", clean(c))
		}
		return statusFailed
	case err != nil:
		return s.fail(err)
	}
	fmt.Fprintf(s.Out, "%s %s\n", clean(whom), done)
	for _, id := range ended.Live {
		fmt.Fprintf(s.Err, "warning: session '%s' has a live connection, which is not dropped; use 'disconnect' for that\n", clean(short(id)))
	}
	return statusOK
}

func (s *session) unban(ip string) int {
	err := s.call(control.CmdUnban, control.UnbanArgs{IP: ip}, nil)
	switch {
	case is(err, control.NotFound), is(err, control.BadRequest):
		fmt.Fprintf(s.Err, "could not unban IP '%s'\n", clean(ip))
		return statusFailed
	case err != nil:
		return s.fail(err)
	}
	fmt.Fprintf(s.Out, "IP '%s' was unbanned\n", clean(ip))
	return statusOK
}

// What completion offers. Whatever goes wrong, there is nothing to offer.

func (s *session) tunnels() []control.Session {
	var all control.Sessions
	if s.call(control.CmdSessions, nil, &all) != nil {
		return nil
	}
	return all.Sessions
}

func (s *session) users() (names []string) {
	seen := map[string]bool{}
	for _, t := range s.tunnels() {
		if !seen[t.User] {
			seen[t.User] = true
			names = append(names, clean(t.User))
		}
	}
	return names
}

func (s *session) ids() (names []string) {
	for _, t := range s.tunnels() {
		names = append(names, strconv.Itoa(t.ID))
	}
	return names
}

func (s *session) sids() (names []string) {
	var all control.Cookies
	s.call(control.CmdCookies, nil, &all)
	for _, c := range all.Cookies {
		if c.Session != "" {
			names = append(names, short(c.Session))
		}
	}
	return names
}

func (s *session) banned() (names []string) {
	var all control.Bans
	s.call(control.CmdBans, nil, &all)
	for _, b := range all.Bans {
		names = append(names, b.IP)
	}
	return names
}
