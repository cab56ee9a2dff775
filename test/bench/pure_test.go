package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func quiet(s sample) measured { return measured{Sample: s} }

func disturbed(s sample) measured { return measured{Sample: s, Noise: noise{Foreign: 0.5}} }

// aResult is a run of one row.
func aResult(ocserv, rocserv []measured) *result {
	return &result{Rows: []*rowResult{{"dtls-down-1", map[string][]measured{"ocserv": ocserv, "rocserv": rocserv}}}}
}

func at(cpu, fast float64) sample { return sample{cpuPerGB: cpu, throughput: fast} }

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{8, 1, 2, 4}, 3}} {
		if got := median(tt.in); got != tt.want {
			t.Errorf("median %v = %v, want %v", tt.in, got, tt.want)
		}
	}
	if got := quantile([]float64{5, 1, 4, 2, 3}, 0.5); got != 3 {
		t.Errorf("p50 = %v", got)
	}
	if got := quantile([]float64{1, 2}, 1); got != 2 {
		t.Errorf("p100 = %v", got)
	}
}

// Disturbed samples do not count as long as there is another.
func TestSummary(t *testing.T) {
	r := aResult(nil, []measured{disturbed(at(9, 1)), quiet(at(2, 1)), quiet(at(4, 1))})
	s, ok := r.Rows[0].summary("rocserv", cpuPerGB)
	if !ok || s.value != 3 || s.samples != 2 || s.disturbed || s.low != 2 || s.high != 4 {
		t.Errorf("%+v", s)
	}
	r = aResult(nil, []measured{disturbed(at(9, 1))})
	if s, _ := r.Rows[0].summary("rocserv", cpuPerGB); s.value != 9 || !s.disturbed {
		t.Errorf("%+v", s)
	}
	if _, ok := r.Rows[0].summary("ocserv", cpuPerGB); ok {
		t.Error("a figure of nothing")
	}
}

func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name           string
		theirs, ours   sample
		cpu, fast      string
		missesExpected int
	}{
		{"both met", at(10, 800), at(4, 1000), "met", "met", 0},
		{"better than aimed at", at(10, 800), at(2, 1000), "better than aimed at", "met", 0},
		{"cpu missed", at(10, 800), at(4.6, 1000), "**missed**", "met", 1},
		{"both missed", at(10, 800), at(10, 100), "**missed**", "**missed**", 2},
		{"nothing to compare with", nil, at(4, 1000), "", "", 0},
	} {
		r := aResult([]measured{quiet(tt.theirs)}, []measured{quiet(tt.ours)})
		which, _ := rowNamed("dtls-down-1")
		for i, want := range []string{tt.cpu, tt.fast} {
			if got := r.Rows[0].verdict(which, which.goals[i]); got != want {
				t.Errorf("%s: %s is %q, want %q", tt.name, which.goals[i].of, got, want)
			}
		}
		if got := r.misses(); len(got) != tt.missesExpected {
			t.Errorf("%s: misses %q", tt.name, got)
		}
	}
}

// A goal that is missed is closed by a floor that misses it too, and by no other.
func TestClosed(t *testing.T) {
	up := func(mbps float64) sample { return sample{throughput: mbps, clientMost: 1230} }
	which, _ := rowNamed("tls-up-1")
	const said = "throughput: 1.50 × ocserv's, must be ≥ 2 ×; the floor misses it too: 1.75 × ocserv's, and 2.05 × ocserv's if its client never waited"
	for _, tt := range []struct {
		name  string
		floor measured
		want  string
	}{
		{"less than twice", quiet(up(1050)), "missed, by the floor too"},
		{"twice", quiet(up(1200)), "**missed**"},
		{"less than we have", quiet(up(890)), "**missed**"},
		{"disturbed", disturbed(up(1050)), "**missed**"},
	} {
		r := &result{}
		r.add(which, "ocserv", quiet(up(600)))
		r.add(which, "rocserv", quiet(up(900)))
		r.add(which, "floor", tt.floor)
		if got := r.Rows[0].verdict(which, which.goals[1]); got != tt.want {
			t.Errorf("%s: %q", tt.name, got)
		}
		if got := strings.Contains(strings.Join(r.misses(), "\n"), said); got != (tt.want != "**missed**") {
			t.Errorf("%s: misses %q", tt.name, r.misses())
		}
	}
}

// What a tun device's client took is what the device has sent.
func TestTaken(t *testing.T) {
	const text = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo:     100       1    0    0    0     0          0         0      100       2    0    0    0     0       0          0\n" +
		"   oc0:    3000      30    0    5    0     0          0         0 14340000   10000    0   42    0     0       0          0\n"
	if got, err := taken(text, "oc0"); err != nil || got != (counts{10000, 42}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, device := range []string{"oc1", "face", "o"} {
		if got, err := taken(text, device); err == nil {
			t.Errorf("%s has %v", device, got)
		}
	}
}

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		patterns string
		quick    bool
		want     int // -1: an error
	}{
		{"", false, len(rows)}, {"dtls-*-1", false, 2}, {"ping,rr", false, 2}, {"ping,ping", false, 1},
		{"nosuch", false, -1}, {"ping,nosuch", false, -1}, {"[", false, -1},
	} {
		got, err := choose(tt.patterns, tt.quick)
		if (err != nil) != (tt.want < 0) || err == nil && len(got) != tt.want {
			t.Errorf("%q: %d rows, %v", tt.patterns, len(got), err)
		}
	}
	if got, _ := choose("", true); len(got) == 0 || len(got) == len(rows) {
		t.Errorf("a quick run has %d rows", len(got))
	}
}

// Every row is complete, and what it shows has a name.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows {
		if r.name == "" || r.title == "" || r.measure == nil || len(r.shown()) == 0 || seen[r.name] {
			t.Errorf("row %+v", r)
		}
		seen[r.name] = true
		for _, f := range r.shown() {
			if figures[f].title == "" || figures[f].unit == "" {
				t.Errorf("%s shows %q, which has no name", r.name, f)
			}
		}
	}
}

// What costs more for each, the more there are, is said; what does not is linear.
func TestGrowth(t *testing.T) {
	r := &result{}
	for n, µs := range map[int]float64{1: 50, 10: 20, 100: 21, 1000: 44} {
		r.add(row{name: growRow("tunnels", n)}, "rocserv", quiet(sample{cpuPerTrip: µs}))
		r.add(row{name: growRow("tunnels", n)}, "ocserv", quiet(sample{cpuPerTrip: 20}))
	}
	text := r.growths()
	for _, want := range []string{"| tunnels | rocserv | 1: 50.0, 10: 20.0, 100: 21.0, 1000: 44.0 | **2.2 times as much for each** |", "| tunnels | ocserv | 1: 20.0, 10: 20.0, 100: 20.0, 1000: 20.0 | linear |"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// A run survives its file, and makes a document with charts that are XML.
func TestDocument(t *testing.T) {
	dir := t.TempDir()
	r := aResult([]measured{quiet(at(8.5, 831))}, []measured{disturbed(at(4.25, 1006))})
	course := sample{throughput: 1}
	for i := range courseSteps {
		course[inStep(i)] = float64(i)
	}
	row, _ := rowNamed(courseRow)
	r.add(row, "rocserv", quiet(course))
	r.Date, r.Commit = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), "0123abc"
	file := filepath.Join(dir, "r.json")
	if err := r.save(file); err != nil {
		t.Fatal(err)
	}
	r, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.document(dir); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(dir, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| DTLS down, 1 flow | server CPU, s/GB | 8.50 | 4.25 ~ | 0.50 |", "**missed**", "commit 0123abc",
		"DTLS down, 1 flow, server CPU: 0.500 × ocserv's", "1 of 3 measurements were disturbed", "Not measured in this run"} {
		if !strings.Contains(string(md), want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	for _, name := range []string{charts[0].file, charts[1].file, courseChart} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(strings.NewReader(string(b)))
		for err = nil; err == nil; {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The quiet-machine check sees what others do, and not what is ours.
func TestNoise(t *testing.T) {
	from := machineTimes{at: time.Unix(0, 0)}
	to := machineTimes{at: time.Unix(2, 0), busy: 3 * time.Second, ours: 2 * time.Second, steal: 20 * time.Millisecond}
	n := to.since(from)
	if n.Foreign != 0.5 || n.Steal != 0.01 || !n.disturbed() {
		t.Errorf("%+v", n)
	}
	to.busy = 2 * time.Second
	if n := to.since(from); n.Foreign != 0 || n.disturbed() {
		t.Errorf("%+v", n)
	}
	if m, err := readMachine(); err != nil || m.busy == 0 || m.ours > m.busy {
		t.Errorf("%+v, %v", m, err)
	}
}
