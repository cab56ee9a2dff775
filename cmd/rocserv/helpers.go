package main

import (
	"errors"
	"fmt"
	"slices"

	"rocserv/internal/config"
	"rocserv/secmod/helper"
	"rocserv/secmod/helper/gssapi"
	"rocserv/secmod/helper/ldap"
	"rocserv/secmod/helper/radius"
)

// methods are the ways to log in that a helper's process plays.
var methods = helper.Table{
	"gssapi": {Make: gssapi.Make, Check: gssapi.Check},
	"ldap":   {Make: ldap.Make, Check: ldap.Check},
	"radius": {Make: radius.Make, Check: radius.Check},
}

// checkHelpers reads what login helpers would, once for each line of the
// configuration, and says what is wrong with it.
func checkHelpers(c *config.Config) (warnings []string, err error) {
	var errs []error
	seen := map[string]bool{}
	for _, v := range c.Vhosts {
		for _, m := range slices.Concat(v.Auth, v.EnableAuth) {
			if !m.Remote() || seen[m.String()] {
				continue
			}
			seen[m.String()] = true
			said, err := methods[m.Name].Check(m.Options)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: auth = %s: %w", c.Line(m.Line), m.Name, err))
			}
			for _, w := range said {
				warnings = append(warnings, c.Line(m.Line)+": "+m.Name+": "+w)
			}
		}
	}
	return warnings, errors.Join(errs...)
}
