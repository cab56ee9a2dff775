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
		{Name: "client-dns", Type: Text, Default: "allow", Scope: ScopeUser, Ours: true,
			Meaning: "what becomes of DNS (port 53) to other servers: allow, intercept (the gateway's resolver answers) or deny",
			set:     setClientDNS, get: getClientDNS},
		{Name: "gateway-forward", Type: Text, List: true, Scope: ScopeUser, Ours: true,
			Meaning: "tcp:PORT -> HOST:PORT: a port of the gateway address stands for a service, whatever the rules say",
			at:      func(t *target) any { return &t.user.Forwards }, set: setForward, get: getForwards},
		{Name: "tls-fingerprint", Type: Text, Default: "go", Scope: ScopeUser, Ours: true,
			Meaning: "what TLS to proxies and resolvers looks like: go, chrome, firefox, safari, ios or randomized",
			set:     setFingerprint, get: getFingerprint},
	}
}

// resolverOptions say how the gateway's resolver answers.
func resolverOptions() []Option {
	return []Option{
		{Name: "resolver", Type: ResolverText, List: true, Scope: ScopeUser, Ours: true,
			Meaning: "DNS servers that the gateway's resolver asks, for some zones or for the rest; without one for the rest those of the host",
			at:      func(t *target) any { return &t.user.Resolver.Servers }, set: setResolver, get: getResolvers},
		{Name: "resolver-via", Type: Text, List: true, Scope: ScopeUser, Ours: true,
			Meaning: "ways by which the gateway's resolver asks, in order: the first that is up; without one the host's own sockets",
			at:      func(t *target) any { return &t.user.Resolver.Via }, set: setResolverVia, get: getResolverVia},
		{Name: "resolver-block", Type: BlockText, List: true, Scope: ScopeUser, Ours: true,
			Meaning: "names that the gateway's resolver does not answer, with all below them",
			at:      func(t *target) any { return &t.user.Resolver.Block }, set: setResolverBlock, get: func(t *target) []string { return t.user.Resolver.Block }},
		{Name: "resolver-block-answer", Type: Text, Default: "nxdomain", Scope: ScopeUser, Ours: true,
			Meaning: "what it says of them: nxdomain or refused",
			set:     setBlockAnswer, get: getBlockAnswer},
		{Name: "resolver-guard", Type: Bool, Default: "false", Scope: ScopeUser, Ours: true,
			Meaning: "withholds answers that lead a public name to a private address (DNS rebinding)",
			at:      func(t *target) any { return &t.user.Resolver.Guard }},
		{Name: "resolver-guard-except", Type: Text, List: true, Scope: ScopeUser, Ours: true,
			Meaning: "domains that may lead there, beside the zones of resolver lines",
			at:      func(t *target) any { return &t.user.Resolver.GuardExcept }, set: setGuardExcept,
			get: func(t *target) []string { return t.user.Resolver.GuardExcept }},
		{Name: "resolver-cache", Type: Bytes, Default: "262144", Scope: ScopeUser, Ours: true, most: maxDNSCache,
			Meaning: "memory of each client for answers that can be given again; 0: none",
			at:      func(t *target) any { return &t.user.Resolver.Cache }},
	}
}
