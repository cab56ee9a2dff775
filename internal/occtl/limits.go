package occtl

import (
	"fmt"
	"io"

	"rocserv/internal/control"
)

// showLimits prints whose logins are refused after too many wrong passwords.
func (s *session) showLimits(string) int {
	var all control.Limits
	if err := s.call(control.CmdLimits, nil, &all); err != nil {
		return s.fail(err)
	}
	s.page(func(w io.Writer) {
		if s.json {
			var objects [][]field
			for _, l := range all.Limits {
				objects = append(objects, []field{str("Username", l.User), str("IP", l.IP), str("Until", date(l.Until)), only("_Until", interval(l.Until.Sub(s.Now())))})
			}
			writeObjects(w, objects)
			return
		}
		if len(all.Limits) == 0 {
			return
		}
		fmt.Fprintf(w, "%20s %20s %30s\n", "user", "IP", "until")
		for _, l := range all.Limits {
			fmt.Fprintf(w, "%20s %20s %30s\n", clean(orAny(l.User)), orAny(l.IP), date(l.Until)+" ("+interval(l.Until.Sub(s.Now()))+")")
		}
		if all.More > 0 {
			fmt.Fprintf(w, "and %d more\n", all.More)
		}
	})
	return statusOK
}

// orAny is a name, or what stands for all of them.
func orAny(name string) string {
	if name == "" {
		return "(any)"
	}
	return name
}

// unlimit has logins listened to again.
func (s *session) unlimit(what, name string, whom control.UnlimitArgs) int {
	err := s.call(control.CmdUnlimit, whom, nil)
	switch {
	case is(err, control.NotFound), is(err, control.BadRequest):
		fmt.Fprintf(s.Err, "could not lift a limit of %s '%s'\n", what, clean(name))
		return statusFailed
	case err != nil:
		return s.fail(err)
	}
	fmt.Fprintf(s.Out, "%s '%s' is no longer limited\n", what, clean(name))
	return statusOK
}

func (s *session) limitedUsers() (names []string) {
	return s.limited(func(l control.Limit) string { return clean(l.User) })
}

func (s *session) limitedIPs() (names []string) {
	return s.limited(func(l control.Limit) string { return l.IP })
}

// limited is what completion offers of limits.
func (s *session) limited(name func(control.Limit) string) (names []string) {
	var all control.Limits
	s.call(control.CmdLimits, nil, &all)
	seen := map[string]bool{"": true}
	for _, l := range all.Limits {
		if n := name(l); !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}
