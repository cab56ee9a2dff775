package doctor

import (
	"rocserv/internal/config"
)

// A needs function says what of the host a method of login lacks, and the line
// that gives it; empty: nothing.
type needs func(*Facts) (lacks, line string)

// methodNeeds has a row for every method that this build knows
// (config.MethodNames); TestEveryMethod holds it to that.
var methodNeeds = map[string]needs{
	"plain":       nothing,
	"certificate": nothing,
	"pam":         pamProgram,
	"radius":      nothing,
	"gssapi":      nothing,
	"oidc":        nothing,
	"ldap":        nothing,
}

func pamProgram(f *Facts) (lacks, line string) {
	if f.PAM == nil {
		return "", ""
	}
	return f.PAM.Error(), "make pam, and put rocserv-pam beside rocserv"
}

func nothing(*Facts) (lacks, line string) { return "", "" }

func judgeMethods(f *Facts) (list []Finding) {
	for _, m := range config.MethodNames() {
		if !m.Ready {
			list = append(list, Finding{Name: m.Name, State: Gap, Have: "not in this version"})
			continue
		}
		lacks, line := "", ""
		if need := methodNeeds[m.Name]; need != nil {
			lacks, line = need(f)
		}
		if lacks != "" {
			list = append(list, Finding{Name: m.Name, State: Gap, Have: lacks, Costs: "logins by it fail", Close: line})
			continue
		}
		list = append(list, ok(m.Name, "works here"))
	}
	return list
}
