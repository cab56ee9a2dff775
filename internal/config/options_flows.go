package config

// flowOptions bound what one client can have open through the server, and say
// who may answer it.
func flowOptions() []Option {
	return []Option{
		{Name: "nat-filtering", Type: Text, Default: "address", Scope: ScopeUser, Ours: true,
			Meaning: "who may send to a client's UDP port: an address it has sent to (address), or everybody (full-cone)",
			set:     setFiltering, get: getFiltering},
		{Name: "limit-tcp-flows", Type: Number, Default: "2048", Scope: ScopeUser, Ours: true, most: maxFlows,
			Meaning: "most TCP connections of a client at a time",
			at:      func(t *target) any { return &t.user.Flows.TCP }},
		{Name: "limit-udp-flows", Type: Number, Default: "1024", Scope: ScopeUser, Ours: true, most: maxFlows,
			Meaning: "most UDP ports of a client at a time; beyond, the least useful one goes",
			at:      func(t *target) any { return &t.user.Flows.UDP }},
		{Name: "limit-icmp-flows", Type: Number, Default: "64", Scope: ScopeUser, Ours: true, most: maxFlows,
			Meaning: "most pings of a client at a time",
			at:      func(t *target) any { return &t.user.Flows.ICMP }},
		{Name: "limit-dials", Type: Number, Default: "256", Scope: ScopeUser, Ours: true, most: maxFlows,
			Meaning: "most TCP connections of a client that are being made, half of them to one address",
			at:      func(t *target) any { return &t.user.Flows.Dials }},
		{Name: "limit-new-flows", Type: Number, Default: "0", Scope: ScopeUser, Ours: true, most: maxFlows,
			Meaning: "most new flows of a client in a second, TCP and others each; 0: 2000 TCP, 500 others",
			at:      func(t *target) any { return &t.user.Flows.PerSecond }},
		{Name: "limit-flow-buffers", Type: Bytes, Default: "67108864", Scope: ScopeUser, Ours: true, most: maxFlowBuffers,
			Meaning: "memory shared out for the data of a client's TCP connections; those that stand still keep what they had while they were fewer",
			at:      func(t *target) any { return &t.user.Flows.Buffers }},
	}
}

const (
	maxFlows       = 60000   // ports of an address, roughly
	maxFlowBuffers = 1 << 30 // bytes
)

func setFiltering(p *parser, t *target, it item) {
	switch it.text {
	case "address":
		t.user.Flows.FullCone = false
	case "full-cone":
		t.user.Flows.FullCone = true
	default:
		p.errorf(it.line, "'nat-filtering' is address or full-cone, not '%s'", it.text)
	}
}

func getFiltering(t *target) []string {
	if t.user.Flows.FullCone {
		return []string{"full-cone"}
	}
	return []string{"address"}
}
