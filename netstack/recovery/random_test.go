package recovery

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"rocserv/test/relay"
)

// check proves that the books are right.
func (p *Path) check(t testing.TB) {
	t.Helper()
	var pipe int64
	busy := 0
	for _, f := range p.flows {
		var fly, lost int64
		at := f.una
		for i, r := range f.sent {
			if i == 0 && before(at, r.seq) || i > 0 && r.seq != at {
				t.Fatalf("a record from %d where %d should follow", r.seq, at)
			}
			at = r.end
			fly += r.bytes(r.flying())
			lost += r.bytes(r.lost)
			if r.lost&r.got != 0 || (r.lost|r.got|r.resent)&^r.all() != 0 {
				t.Fatalf("record %+v", r)
			}
		}
		if f.state == managed && at != f.nxt {
			t.Fatalf("records end at %d, not at %d", at, f.nxt)
		}
		if fly != f.pipe || lost != f.lost {
			t.Fatalf("in flight %d, on the books %d; lost %d, on the books %d", fly, f.pipe, lost, f.lost)
		}
		pipe += fly
		if len(f.sent) > 0 {
			busy++
		}
	}
	if pipe != p.model.pipe || busy != p.active {
		t.Fatalf("in flight %d, on the books %d; %d flows, on the books %d", pipe, p.model.pipe, busy, p.active)
	}
}

// TestRandomPaths: whatever the path does, every byte arrives once and in order,
// within the time that it takes, and nothing is left. ROCSERV_PATHS is how many
// paths are tried, or for how long (1h), and perhaps the first one's seed (30m@1000000).
func TestRandomPaths(t *testing.T) {
	seed, paths, until := uint64(0), uint64(150), time.Time{}
	if testing.Short() {
		paths = 20
	}
	if v := os.Getenv("ROCSERV_PATHS"); v != "" {
		v, first, given := strings.Cut(v, "@")
		if given {
			var err error
			if seed, err = strconv.ParseUint(first, 10, 32); err != nil {
				t.Fatalf("ROCSERV_PATHS: the first seed is %q", first)
			}
		}
		if d, err := time.ParseDuration(v); err == nil {
			paths, until = math.MaxUint64-seed, time.Now().Add(d)
		} else if paths, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("ROCSERV_PATHS=%q is neither a number nor a duration", v)
		}
	}
	var sum travelled
	for end := seed + paths; seed < end && (until.IsZero() || time.Now().Before(until)); seed++ {
		sum.add(randomPath(t, seed))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Log(sum)
}

// travelled is what went over random paths.
type travelled struct {
	paths, flows, bytes int64
	took                time.Duration // virtual
	stats               Stats
}

func (a *travelled) add(b travelled) {
	a.paths += b.paths
	a.flows += b.flows
	a.bytes += b.bytes
	a.took += b.took
	a.stats.Lost += b.stats.Lost
	a.stats.Resent += b.stats.Resent
	a.stats.Spurious += b.stats.Spurious
	a.stats.Probes += b.stats.Probes
	a.stats.Timeouts += b.stats.Timeouts
	a.stats.Given += b.stats.Given
}

func (a travelled) String() string {
	return fmt.Sprintf("%d paths, %d flows, %.1f GB in %.0f h of virtual time; %d packets found lost, %d sent again, %d of them for nothing, %d probes, %d timeouts, %d flows given back",
		a.paths, a.flows, float64(a.bytes)/1e9, a.took.Hours(), a.stats.Lost, a.stats.Resent, a.stats.Spurious, a.stats.Probes, a.stats.Timeouts, a.stats.Given)
}

func randomPath(t *testing.T, seed uint64) travelled {
	r := newRig(t, seed)
	if seed%2 != 0 {
		r.scale = kibScale
	}
	rng := r.w.rng
	upTo := func(d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }
	slowest := r.newPath()
	var conns []*conn
	var total int64
	for range 1 + rng.IntN(6) {
		n := rng.Int64N(1 << uint(8+rng.IntN(14)))
		total += n
		r.w.run(r.w.now + upTo(300*time.Millisecond))
		c := r.dial(n, true)
		c.window = 1<<15 + rng.Uint32N(4<<20)
		conns = append(conns, c)
	}
	// Every third path becomes another one, perhaps as the client roams to it.
	for i := range rng.IntN(3) * (rng.IntN(3) / 2) {
		r.w.at(r.w.now+time.Duration(i)*time.Second+upTo(3*time.Second), func() {
			slowest = min(slowest, r.newPath())
			if rng.IntN(2) == 0 {
				r.p.Moved()
			}
		})
	}
	// What is lost is repaired within a few round trips: the time allowed is
	// generous, but a path that stalls does not meet it.
	end := func() time.Duration {
		return 150*time.Second + time.Duration(float64(total)/slowest*1e9)*20
	}
	for done := false; !done && r.w.now < end(); {
		r.w.run(r.w.now + 500*time.Millisecond)
		r.p.check(t)
		done = true
		for _, c := range conns {
			done = done && c.una == c.nxt && c.sentFIN
		}
	}
	for i, c := range conns {
		if c.una != c.nxt || !c.sentFIN || c.rcv != c.nxt {
			t.Errorf("flow %d: at %d of %d bytes, path %+v %+v, stats %+v", i, c.rcv-c.iss, c.nxt-c.iss, r.down.Path, r.up.Path, r.p.stats)
		}
		r.p.Forget(c.name)
	}
	if r.held != 0 {
		t.Errorf("%d segments are held", r.held)
	}
	return travelled{1, int64(len(conns)), total, r.w.now, r.p.stats}
}

// newPath makes both directions another path, and returns the rate of the one
// towards the client, in bytes per second.
func (r *rig) newPath() float64 {
	rng := r.w.rng
	some := func(chance, most float64) float64 {
		if rng.Float64() < chance {
			return rng.Float64() * most
		}
		return 0
	}
	upTo := func(d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }
	for _, y := range []*way{r.down, r.up} {
		y.Path = relay.Path{
			Rate: (0.2 + some(1, 1)*some(.7, 100)) * mbit, Queue: 5*time.Millisecond + upTo(200*time.Millisecond),
			Delay: upTo(150 * time.Millisecond), Jitter: time.Duration(some(.3, 2e7)),
			Loss: some(.7, .08), Burst: time.Duration(some(.3, 5e7)),
			Late: some(.4, .05), By: upTo(50 * time.Millisecond), Twice: some(.3, .05),
		}
		if y.Burst > 0 {
			y.Loss /= 10
		}
		y.Queue += time.Duration(30 * 1500 / y.Rate * 1e9) // thirty packets
	}
	return r.down.Rate
}
