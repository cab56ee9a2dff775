package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"rocserv/test/e2e/lab"
)

// result is a run, as it is kept in a file.
type result struct {
	Date    time.Time
	Machine machine
	Commit  string
	Changed bool // there were changes that are in no commit
	Go      string
	Servers map[string]string // versions
	Client  string
	Seconds int // of a measurement
	Rounds  int // complete ones
	Took    time.Duration
	Rows    []*rowResult
	Failed  []string `json:",omitempty"` // measurements that came to nothing
}

// machine is where it was.
type machine struct {
	CPU        string
	Processors int
	MemoryMB   int
	Kernel     string
	Congestion string // control that the hosts of the lab use
	Virtual    string
}

// rowResult has the samples of one row by server.
type rowResult struct {
	Name    string
	Samples map[string][]measured
}

type measured struct {
	Sample sample
	Noise  noise
}

func newResult(p plan, all []*contender) *result {
	r := &result{
		Date: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(), Go: runtime.Version(),
		Servers: map[string]string{}, Client: versionOf("openconnect"), Seconds: p.seconds,
	}
	for _, c := range all {
		if !c.isFloor() {
			r.Servers[c.name()] = versionOf(c.program.Path)
		}
	}
	// test/bench/run says of which commit the server is.
	r.Commit, r.Changed = strings.CutSuffix(os.Getenv("BENCH_COMMIT"), "-dirty")
	return r
}

// versionNumber is how programs write it.
var versionNumber = regexp.MustCompile(`v?[0-9]+\.[0-9][-0-9.a-z]*`)

// versionOf is a program and what it says about its version.
func versionOf(program string) string {
	out, _ := exec.Command(program, "--version").CombinedOutput() // some exit with a status
	return filepath.Base(program) + " " + string(versionNumber.Find(out))
}

func thisMachine() machine {
	m := machine{Processors: runtime.NumCPU()}
	m.Kernel = content("/proc/sys/kernel/osrelease")
	m.Congestion = content("/proc/sys/net/ipv4/tcp_congestion_control")
	if f := strings.Fields(content("/proc/meminfo")); len(f) > 1 {
		kib, _ := strconv.Atoi(f[1])
		m.MemoryMB = kib / 1024
	}
	for line := range strings.Lines(content("/proc/cpuinfo")) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name":
			m.CPU = strings.TrimSpace(value)
		case "flags":
			if strings.Contains(value+" ", " hypervisor ") {
				m.Virtual = "a virtual machine"
			}
		}
	}
	return m
}

func content(name string) string {
	b, _ := os.ReadFile(name)
	return strings.TrimSpace(string(b))
}

func (r *result) add(which row, server string, m measured) {
	for _, have := range r.Rows {
		if have.Name == which.name {
			have.Samples[server] = append(have.Samples[server], m)
			return
		}
	}
	r.Rows = append(r.Rows, &rowResult{which.name, map[string][]measured{server: {m}}})
}

func (r *result) save(name string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

func load(name string) (*result, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := new(result)
	return r, json.Unmarshal(b, r)
}

// summary is a figure's median, of the undisturbed samples if there are any.
type summary struct {
	value     float64
	low, high float64
	samples   int
	disturbed bool // all of them were
}

func (r *rowResult) summary(server string, f figure) (s summary, ok bool) {
	var quiet, all []float64
	for _, m := range r.Samples[server] {
		v, has := m.Sample[f]
		if !has {
			continue
		}
		all = append(all, v)
		if !m.Noise.disturbed() {
			quiet = append(quiet, v)
		}
	}
	if len(all) == 0 {
		return s, false
	}
	if s.disturbed = len(quiet) == 0; s.disturbed {
		quiet = all
	}
	s.value, s.samples = median(quiet), len(quiet)
	s.low, s.high = quantile(quiet, 0), quantile(quiet, 1)
	return s, true
}

// compared is a figure of a row on both servers.
type compared struct {
	ours, theirs summary
	both         bool
	ratio        float64 // ours ÷ theirs
}

func (r *rowResult) compare(f figure) (c compared, ok bool) {
	c.ours, ok = r.summary(string(lab.Rocserv), f)
	var has bool
	c.theirs, has = r.summary(string(lab.Ocserv), f)
	if c.both = ok && has && c.theirs.value > 0; c.both {
		c.ratio = c.ours.value / c.theirs.value
	}
	return c, ok || has
}

// judge says whether a goal is reached; known is false without the figures for it.
func (r *rowResult) judge(g goal) (value float64, met, known bool) {
	c, ok := r.compare(g.of)
	if !ok || g.ratio && !c.both || c.ours.samples == 0 {
		return 0, false, false
	}
	value = c.ours.value
	if g.ratio {
		value = c.ratio
	}
	return value, g.met(value), true
}

// rowNamed finds a row of the table.
func rowNamed(name string) (row, bool) {
	for _, r := range rows {
		if r.name == name {
			return r, true
		}
	}
	return row{}, false
}
