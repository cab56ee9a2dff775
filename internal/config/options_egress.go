package config

// egressOptions say what clients may reach and by which way.
func egressOptions() []Option {
	return []Option{
		{Name: "egress-profile", Type: Text, Default: "lan", Scope: ScopeUser, Ours: true,
			Meaning: "where clients may go: lan (the internet and private networks) or internet (no private networks)",
			set:     setEgressProfile, get: getEgressProfile},
		{Name: "egress-allow-unsafe", Type: Prefixes, List: true, Scope: ScopeGlobal, Ours: true,
			Meaning: "networks clients may reach though they are the server's own: loopback, link-local, the host's addresses, metadata services",
			at:      func(t *target) any { return &t.global.EgressAllowUnsafe }},
		{Name: "egress-rule", Type: RuleText, List: true, Scope: ScopeUser, Ours: true,
			Meaning: "allow or deny, and what; the first rule that holds decides, and where none does, egress-profile",
			at:      func(t *target) any { return &t.user.EgressRules }, set: setEgressRule, get: getEgressRules},
		{Name: "egress-allow", Type: RuleText, List: true, Scope: ScopeUser, Ours: true, Into: "egress-rule",
			Meaning: "egress-rule = allow ...",
			set:     setEgressAllow},
		{Name: "egress-deny", Type: RuleText, List: true, Scope: ScopeUser, Ours: true, Into: "egress-rule",
			Meaning: "egress-rule = deny ...",
			set:     setEgressDeny},
		{Name: "egress", Type: WayText, List: true, Merge: true, Scope: ScopeUser, Ours: true,
			Meaning: "defines a way out by its name",
			at:      func(t *target) any { return &t.user.Ways }, set: setWay, get: getWays},
		{Name: "egress-via", Type: ViaText, List: true, Scope: ScopeUser, Ours: true,
			Meaning: "the ways that traffic takes, in order: the first that is up; the first line that holds decides, and where none does: direct",
			at:      func(t *target) any { return &t.user.Via }, set: setVia, get: getVia},
		{Name: "tls-fingerprint", Type: Text, Default: "go", Scope: ScopeUser, Ours: true,
			Meaning: "what TLS to proxies and resolvers looks like: go, chrome, firefox, safari, ios or randomized",
			set:     setFingerprint, get: getFingerprint},
	}
}
