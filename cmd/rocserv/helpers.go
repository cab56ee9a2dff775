package main

import (
	"errors"
	"fmt"
	"slices"

	"rocserv/internal/config"
	"rocserv/secmod/helper"
	"rocserv/secmod/helper/gssapi"
	"rocserv/secmod/helper/kkdcp"
	"rocserv/secmod/helper/ldap"
	"rocserv/secmod/helper/oidc"
	"rocserv/secmod/helper/pam"
	"rocserv/secmod/helper/radius"
)

// methods are the ways to log in that a helper's process plays.
var methods = helper.Table{
	"gssapi": {Make: gssapi.Make, Check: gssapi.Check},
	"ldap":   {Make: ldap.Make, Check: ldap.Check},
	"oidc":   {Make: oidc.Make, Check: oidc.Check},
	"pam":    {Check: pam.Check, CheckAccount: pam.Check}, // played by rocserv-pam
	"kkdcp":  {Make: kkdcp.Make},
	"radius": {Make: radius.Make, Check: radius.Check, MakeAccount: radius.MakeAccount, CheckAccount: radius.CheckAccount, Together: radius.Together},
}

// checkHelpers reads what login helpers would, once for each line of the
// configuration, and says what is wrong with it.
func checkHelpers(c *config.Config) (warnings []string, err error) {
	var errs []error
	seen := map[string]bool{}
	accounts := map[string][]map[string]string{}
	read := func(option string, list []config.Method, check func(helper.Kind) helper.Check) {
		for _, m := range list {
			key := option + m.String()
			if !m.Remote() || seen[key] {
				continue
			}
			seen[key] = true
			said, err := check(methods[m.Name])(m.Options)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s = %s: %w", c.Line(m.Line), option, m.Name, err))
			}
			for _, w := range said {
				warnings = append(warnings, c.Line(m.Line)+": "+m.Name+": "+w)
			}
			together := methods[m.Name].Together
			if option != "acct" || together == nil {
				continue
			}
			accounts[m.Name] = append(accounts[m.Name], m.Options)
			if err := together(accounts[m.Name]); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s = %s: %w", c.Line(m.Line), option, m.Name, err))
			}
		}
	}
	for _, v := range c.Vhosts {
		read("auth", slices.Concat(v.Auth, v.EnableAuth), func(k helper.Kind) helper.Check { return k.Check })
		read("acct", v.Acct, func(k helper.Kind) helper.Check { return k.CheckAccount })
	}
	return warnings, errors.Join(errs...)
}
