package radius

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"rocserv/secmod/helper"
)

// options are those of the configuration's line.
type options struct {
	groupConfig   bool   // the server says what sessions are like
	separator     string // of groups in a Class
	nasIdentifier string
}

// separators are the words of group-separator.
var separators = map[string]string{"": ";", "semicolon": ";", "comma": ","}

// Make makes the method of a line `radius[config=FILE,...]`.
func Make(line map[string]string, log helper.Logger) (helper.Made, error) {
	return makeMethod(line, log, net.DefaultResolver.LookupNetIP)
}

// Check reads the files that a line names, and looks no server up. It implements
// helper.Check.
func Check(line map[string]string) (warnings []string, err error) {
	if _, err := readOptions(line); err != nil {
		return nil, err
	}
	_, warnings, err = readDraft(line["config"], logins)
	return warnings, err
}

// MakeAccount makes the accounting of a line `acct = "radius[config=FILE,...]"`.
func MakeAccount(line map[string]string, log helper.Logger) (helper.Made, error) {
	m, warnings, err := makeFor(accounts, line, log, net.DefaultResolver.LookupNetIP)
	if err != nil {
		return helper.Made{}, err
	}
	made := helper.Made{Account: m, Warnings: warnings, Watch: []string{m.conf.serversFile}}
	made.Files.Exact = helper.ResolverFiles()
	if m.conf.dynamic.IsValid() {
		made.Listen, err = listen(m)
	}
	return made, err
}

// CheckAccount is Check for a line of acct.
func CheckAccount(line map[string]string) (warnings []string, err error) {
	if _, err := readOptions(line); err != nil {
		return nil, err
	}
	_, warnings, err = readDraft(line["config"], accounts)
	return warnings, err
}

// Together refuses lines of acct that hear Disconnect-Requests at the same port: each
// of their sockets would get some of the other's. It implements helper.Kind.
func Together(lines []map[string]string) error {
	var heard []netip.AddrPort
	for _, line := range lines {
		var at netip.AddrPort
		if d, _, err := readDraft(line["config"], accounts); err == nil {
			at = d.dynamic
		}
		for j, other := range heard {
			if overlap(at, other) {
				return fmt.Errorf("%s: dynauth-listen: %s hears Disconnect-Requests at port %d too, for another line of acct; give each a port of its own",
					line["config"], lines[j]["config"], at.Port())
			}
		}
		heard = append(heard, at)
	}
	return nil
}

// overlap says whether a datagram can be for either of two sockets. One of every
// address is of IPv4's too.
func overlap(a, b netip.AddrPort) bool {
	return a.IsValid() && b.IsValid() && a.Port() == b.Port() &&
		(a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
}

func makeMethod(line map[string]string, log helper.Logger, find helper.Lookup) (helper.Made, error) {
	m, warnings, err := makeFor(logins, line, log, find)
	if err != nil {
		return helper.Made{}, err
	}
	made := helper.Made{Method: m, Warnings: warnings, Watch: []string{m.conf.serversFile}}
	made.Files.Exact = helper.ResolverFiles()
	return made, nil
}

func makeFor(use purpose, line map[string]string, log helper.Logger, find helper.Lookup) (*method, []string, error) {
	o, err := readOptions(line)
	if err != nil {
		return nil, nil, err
	}
	c, warnings, err := readConf(line["config"], use, find)
	if err != nil {
		return nil, nil, err
	}
	if o.nasIdentifier == "" {
		o.nasIdentifier = c.nasIdentifier
	}
	return &method{pool: newPool(c, find, log), options: o}, warnings, nil
}

func readOptions(line map[string]string) (o options, err error) {
	var known bool
	if o.separator, known = separators[line["group-separator"]]; !known {
		return o, fmt.Errorf("group-separator = %s: neither semicolon nor comma", line["group-separator"])
	}
	if v := line["groupconfig"]; v != "" {
		if o.groupConfig, err = strconv.ParseBool(v); err != nil {
			return o, fmt.Errorf("groupconfig = %s: neither true nor false", v)
		}
	}
	o.nasIdentifier = short(line["nas-identifier"])
	return o, nil
}
