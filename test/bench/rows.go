package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"rocserv/test/client"
	"rocserv/test/e2e/lab"
)

// figure names one number of a sample.
type figure string

// The figures there are. Each has a line in figures.
const (
	cpuPerGB      figure = "cpu"
	throughput    figure = "throughput"
	clientCPU     figure = "client-cpu"
	clientMost    figure = "client-most" // openconnect has one thread: it sends no more than at one processor
	cpuPerPacket  figure = "cpu-packet"
	loss          figure = "loss"
	p50           figure = "p50"
	p99           figure = "p99"
	mean          figure = "mean"
	cpuPerTrip    figure = "cpu-trip"
	cpuPerConn    figure = "cpu-connection"
	perSecondRate figure = "rate"
	megabytes     figure = "memory"
	gigabytes     figure = "total"
	perCore       figure = "per-core"
	queueDelay    figure = "queue"
	share         figure = "share"
	shareOutside  figure = "share-outside"
)

// figures says what a figure is and in which unit.
var figures = map[figure]struct{ title, unit string }{
	cpuPerGB:      {"server CPU", "s/GB"},
	throughput:    {"throughput", "Mbit/s"},
	clientCPU:     {"client CPU", "s/GB"},
	clientMost:    {"if the client never waited", "Mbit/s"},
	cpuPerPacket:  {"server CPU", "µs/packet"},
	loss:          {"lost", "%"},
	p50:           {"p50", "ms"},
	p99:           {"p99", "ms"},
	mean:          {"mean", "ms"},
	cpuPerTrip:    {"server CPU", "µs each"},
	cpuPerConn:    {"server CPU", "ms each"},
	perSecondRate: {"rate", "1/s"},
	megabytes:     {"private memory", "MB"},
	gigabytes:     {"memory in all", "GB"},
	perCore:       {"8 ÷ CPU per GB", "Gbit/s"},
	share:         {"part of the flow in the tunnel", "%"},
	shareOutside:  {"part of the flow outside", "%"},
	queueDelay:    {"wait in the bottleneck's queue", "ms"},
}

// sample is one measurement.
type sample map[figure]float64

// plan is how long and how often.
type plan struct {
	seconds int // of a measurement
	rounds  int
}

// goal is what a figure must reach.
type goal struct {
	of    figure
	atMin bool // not less than; else not more than
	ratio bool // to ocserv; else by itself
	must  float64
	aim   float64 // 0: none
}

func atMost(f figure, must, aim float64) goal  { return goal{f, false, true, must, aim} }
func atLeast(f figure, must, aim float64) goal { return goal{f, true, true, must, aim} }
func itself(f figure, atMin bool, must, aim float64) goal {
	return goal{f, atMin, false, must, aim}
}

// met says whether a value reaches the goal.
func (g goal) met(v float64) bool {
	if g.atMin {
		return v >= g.must
	}
	return v <= g.must
}

func (g goal) String() string {
	sign, unit := "≤", ""
	if g.atMin {
		sign = "≥"
	}
	if g.ratio {
		unit = " ×"
	} else {
		unit = " " + figures[g.of].unit
	}
	return fmt.Sprintf("%s %g%s", sign, g.must, unit)
}

// row is one thing that is measured.
type row struct {
	name    string
	title   string
	quick   bool       // part of a quick run
	once    bool       // in the first round only
	floors  []lab.Kind // that are measured too; the first closes the row if it misses a goal as well
	prepare func(*contender, plan) error
	measure func(*contender, plan) (sample, error)
	goals   []goal   // what must be reached; their figures are shown first
	also    []figure // shown, without a goal
}

// measures says whether a row is one for that contender.
func (r row) measures(c *contender) bool {
	return !c.isFloor() || slices.Contains(r.floors, c.program.Kind)
}

// bothFloors are those of rows in which nothing is carried. What the libraries
// take of an idle process no program of ours can leave out: in that row the one
// with them comes first.
var (
	bothFloors   = []lab.Kind{floor, floorWith}
	memoryFloors = []lab.Kind{floorWith, floor}
)

// rows are all of them, in the order of a round. Goals are those of the project.
var rows = append([]row{
	{name: "memory-idle", title: "worker with an idle tunnel", quick: true, once: true, floors: memoryFloors, measure: idleMemory,
		goals: []goal{atMost(megabytes, 1.3, 1.0)}},
	{name: "memory-used", title: "worker after 100 MB, idle again", once: true, prepare: moveForMemory, measure: usedMemory,
		goals: []goal{itself(megabytes, false, 4.5, 3)}},

	bulkRow("dtls-up-1", "DTLS up, 1 flow", viaDTLS, 1, false, true, 0.28, 2, 0.20),
	bulkRow("dtls-down-1", "DTLS down, 1 flow", viaDTLS, 1, true, true, 0.45, 1.15, 0.30),
	bulkRow("tls-up-1", "TLS up, 1 flow", viaTLS, 1, false, true, 0.28, 2, 0.20),
	bulkRow("tls-down-1", "TLS down, 1 flow", viaTLS, 1, true, true, 0.35, 1.8, 0.25),
	bulkRow("dtls-up-8", "DTLS up, 8 flows", viaDTLS, 8, false, false, 0.30, 0, 0.25),
	bulkRow("dtls-down-8", "DTLS down, 8 flows", viaDTLS, 8, true, false, 0.45, 0, 0.25),
	bulkRow("tls-up-8", "TLS up, 8 flows", viaTLS, 8, false, false, 0.35, 0, 0.25),
	bulkRow("tls-down-8", "TLS down, 8 flows", viaTLS, 8, true, false, 0.30, 0, 0.25),

	{name: "udp-up", title: "UDP 64 B up, 20,000/s", quick: true, measure: datagrams(false),
		goals: []goal{atMost(cpuPerPacket, 1.0, 0.6)}, also: []figure{loss}},
	{name: "udp-down", title: "UDP 64 B down, 39,000/s", quick: true, measure: datagrams(true),
		goals: []goal{atMost(cpuPerPacket, 0.65, 0.6)}, also: []figure{loss}},

	{name: "ping", title: "ping, idle tunnel, DTLS", quick: true, floors: []lab.Kind{floorWith}, measure: idlePing(viaDTLS),
		goals: []goal{atMost(p50, 1.2, 1.0)}, also: []figure{p99}},
	{name: "ping-tls", title: "ping, idle tunnel, TLS", floors: []lab.Kind{floor}, measure: idlePing(viaTLS),
		goals: []goal{atMost(p50, 1.2, 1.0)}, also: []figure{p99}},
	{name: "rr", title: "TCP request and response, DTLS", quick: true, measure: tripRow(viaDTLS, "__rr"),
		goals: []goal{atMost(p50, 1.2, 1.0)}, also: []figure{p99, cpuPerTrip}},
	{name: "rr-tls", title: "TCP request and response, TLS", measure: tripRow(viaTLS, "__rr"),
		goals: []goal{atMost(p50, 1.2, 1.0)}, also: []figure{p99, cpuPerTrip}},
	{name: "connect", title: "TCP connect and first answer, DTLS", quick: true, measure: tripRow(viaDTLS, "__crr"),
		goals: []goal{atMost(p50, 1.8, 1.3)}, also: []figure{p99, cpuPerTrip}},
	{name: "ping-load", title: "ping beside a download, DTLS", quick: true, measure: pingBeside(viaDTLS, "-R"),
		goals: []goal{atMost(mean, 0.6, 0.3)}, also: []figure{p50}},
	{name: "ping-up-tls", title: "ping beside an upload, TLS", measure: pingBeside(viaTLS), also: []figure{mean, p50}},

	{name: "rate", title: "new connections, 8 at once", quick: true, floors: bothFloors, measure: connectionRate(8, 0),
		goals: []goal{atLeast(perSecondRate, 1.0, 1.3)}, also: []figure{p50, p99, cpuPerConn}},
	{name: "paced", title: "new connections, 20 a second", quick: true, floors: bothFloors, measure: connectionRate(0, 20),
		goals: []goal{atMost(p50, 1.0, 0.5)}, also: []figure{p99, cpuPerConn}},

	ceilingRow("load-dtls-up", "load client, DTLS up, 4 flows", true, client.Up),
	ceilingRow("load-dtls-down", "load client, DTLS down, 4 flows", true, client.Down),
	ceilingRow("load-tls-up", "load client, TLS up, 4 flows", false, client.Up),
	ceilingRow("load-tls-down", "load client, TLS down, 4 flows", false, client.Down),
	{name: "load-echo", title: "load client, 50 tunnels, UDP 64 B there and back, 10,000/s", measure: echoMany,
		goals: []goal{atMost(cpuPerTrip, 1.0, 0.6)}, also: []figure{loss, perSecondRate, p50}},
	{name: "load-1000", title: "1000 idle clients with DTLS", once: true, measure: thousand,
		goals: []goal{itself(gigabytes, false, 2.5, 2)}, also: []figure{megabytes, perSecondRate}},
}, slices.Concat(growRows(), pathRows())...)

// ceilingRow is a row of the load client.
func ceilingRow(name, title string, dtls bool, mode client.Mode) row {
	return row{name: name, title: title, measure: ceiling(dtls, mode),
		goals: []goal{itself(perCore, true, 2.5, 4)}, also: []figure{throughput, cpuPerGB}}
}

// bulkRow is a row of TCP flows. fast 0: there is no goal for the throughput.
func bulkRow(name, title string, via, flows int, down, quick bool, cpu, fast, aim float64) row {
	r := row{name: name, title: title, quick: quick, measure: bulk(via, flows, down), goals: []goal{atMost(cpuPerGB, cpu, aim)}}
	if fast > 0 {
		r.goals = append(r.goals, atLeast(throughput, fast, 0))
	} else {
		r.also = append(r.also, throughput)
	}
	r.also = append(r.also, clientCPU)
	if flows == 1 && !down {
		// Alone the floor has no DTLS; the other one has of its libraries the handshake only.
		r.also = append(r.also, clientMost)
		r.floors = []lab.Kind{map[int]lab.Kind{viaTLS: floor, viaDTLS: floorWith}[via]}
	}
	return r
}

// choose returns the rows that patterns, separated by commas, name; with no
// pattern all of them, or the quick ones.
func choose(patterns string, quick bool) ([]row, error) {
	var chosen []row
	used := map[string]bool{}
	for _, r := range rows {
		if patterns == "" {
			if r.quick || !quick {
				chosen = append(chosen, r)
			}
			continue
		}
		for p := range strings.SplitSeq(patterns, ",") {
			ok, err := path.Match(p, r.name)
			if err != nil {
				return nil, fmt.Errorf("-rows %q: %w", p, err)
			}
			if ok {
				used[p] = true
				chosen = append(chosen, r)
				break
			}
		}
	}
	if patterns != "" {
		for p := range strings.SplitSeq(patterns, ",") {
			if !used[p] {
				return nil, fmt.Errorf("-rows: no row is called %q (-list names them)", p)
			}
		}
	}
	return chosen, nil
}
