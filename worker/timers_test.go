package worker

import (
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/internal/ipc"
)

// event is something the timers did.
type event struct {
	what string
	at   time.Duration
}

// happened says whether the wanted events ("what@time") occurred in that order,
// each at its time or at the next look after it.
func happened(done []event, want []string) bool {
	for _, e := range done {
		if len(want) == 0 {
			break
		}
		what, at, _ := strings.Cut(want[0], "@")
		due, _ := time.ParseDuration(at)
		if e.what == what && e.at >= due && e.at < due+idleLook {
			want = want[1:]
		}
	}
	return len(want) == 0
}

func count(done []event, what string) (n int) {
	for _, e := range done {
		if e.what == what {
			n++
		}
	}
	return n
}

// fakeSession records what the timers do, with the second at which they did it.
type fakeSession struct {
	clock      *faketime.ManualClock
	start      tcpip.MonotonicTime
	seen       activity
	hasDTLS    bool
	busy       bool
	done       []event
	timers     *timers
	hearsCSTP  bool // something comes by CSTP all the time
	hearsDTLS  bool
	sendsDatas bool
}

func (f *fakeSession) note(what string) {
	f.done = append(f.done, event{what, f.clock.NowMonotonic().Sub(f.start)})
}

func (f *fakeSession) silent(now tcpip.MonotonicTime) silence {
	if f.hearsCSTP {
		f.seen.cstp.touch()
	}
	if f.hearsDTLS {
		f.seen.dtls.touch()
	}
	if f.sendsDatas {
		f.seen.data.touch()
	}
	return silence{cstp: f.seen.cstp.look(now), dtls: f.seen.dtls.look(now), data: f.seen.data.look(now), hasDTLS: f.hasDTLS}
}
func (f *fakeSession) askCSTP()     { f.note("askCSTP") }
func (f *fakeSession) askDTLS()     { f.note("askDTLS") }
func (f *fakeSession) quietDTLS()   { f.note("quietDTLS") }
func (f *fakeSession) dropDTLS()    { f.note("dropDTLS"); f.hasDTLS = false }
func (f *fakeSession) reportStats() { f.note("stats") }
func (f *fakeSession) upkeep() bool { return f.busy }
func (f *fakeSession) trim()        { f.note("trim") }
func (f *fakeSession) end(r ipc.Reason, text string) {
	f.note("end " + strings.TrimPrefix(r.String(), "REASON_"))
	f.timers.stop()
}

func TestTimers(t *testing.T) {
	tests := []struct {
		name string
		cfg  timeouts
		set  func(*fakeSession)
		run  time.Duration
		want []string // in order; others may stand between
		not  string
	}{
		{"DPD asks, then gives up", timeouts{dpd: 20 * time.Second}, func(*fakeSession) {}, 90 * time.Second,
			[]string{"trim@30s", "askCSTP@40s", "end DPD_TIMEOUT@1m0s"}, ""},
		{"no DPD while the client speaks", timeouts{dpd: 20 * time.Second}, func(f *fakeSession) { f.hearsCSTP = true }, 300 * time.Second,
			nil, "CSTP"},
		{"DTLS silent: quiet, asked, dropped; the session stays", timeouts{dpd: 20 * time.Second, switchToTCP: 10 * time.Second},
			func(f *fakeSession) { f.hearsCSTP, f.hasDTLS, f.busy = true, true, true }, 120 * time.Second,
			[]string{"quietDTLS@10s", "askDTLS@40s", "dropDTLS@1m0s"}, "end"},
		{"idle", timeouts{idle: 60 * time.Second}, func(f *fakeSession) { f.hearsCSTP = true }, 120 * time.Second,
			[]string{"end IDLE_TIMEOUT@1m0s"}, ""},
		{"not idle with data", timeouts{idle: 60 * time.Second}, func(f *fakeSession) { f.hearsCSTP, f.sendsDatas = true, true }, 300 * time.Second,
			nil, "end"},
		{"statistics", timeouts{stats: 30 * time.Second}, func(f *fakeSession) { f.hearsCSTP, f.sendsDatas = true, true }, 100 * time.Second,
			[]string{"stats@30s", "stats@1m0s", "stats@1m30s"}, "end"},
		{"trimmed once in one pause", timeouts{}, func(f *fakeSession) {}, 300 * time.Second, []string{"trim@30s"}, "end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clock := faketime.NewManualClock()
			f := &fakeSession{clock: clock, start: clock.NowMonotonic()}
			f.seen.cstp.touch()
			f.seen.dtls.touch()
			f.seen.data.touch()
			f.silent(clock.NowMonotonic())
			tt.set(f)
			f.timers = newTimers(clock, tt.cfg, f)
			f.timers.start()
			for range int(tt.run / (100 * time.Millisecond)) {
				clock.Advance(100 * time.Millisecond)
			}
			if n := count(f.done, "trim"); n > 1 {
				t.Errorf("trimmed %d times in one pause", n)
			}
			if !happened(f.done, tt.want) {
				t.Errorf("did %v, want %v", f.done, tt.want)
			}
			for _, d := range f.done {
				if tt.not != "" && strings.Contains(d.what, tt.not) {
					t.Errorf("did %v", d)
				}
			}
		})
	}
}

// Whoever asks for a look soon, and again before it is due, puts it off no further.
func TestSoonIsNotPutOff(t *testing.T) {
	clock := faketime.NewManualClock()
	f := &fakeSession{clock: clock, start: clock.NowMonotonic(), hearsCSTP: true, sendsDatas: true}
	f.timers = newTimers(clock, timeouts{sessionEnd: clock.Now().Add(10 * time.Second)}, f)
	f.timers.start()
	for range 100 {
		f.timers.soon()
		clock.Advance(300 * time.Millisecond)
	}
	if want := []string{"end SESSION_TIMEOUT@10s"}; !happened(f.done, want) || f.done[0].at >= 12*time.Second {
		t.Errorf("did %v, want %v", f.done, want)
	}
}

func TestSessionTimeoutIsAbsolute(t *testing.T) {
	clock := faketime.NewManualClock()
	f := &fakeSession{clock: clock, start: clock.NowMonotonic(), hearsCSTP: true, sendsDatas: true}
	// Logged in 50 s before this worker began: a minute's session has 10 s left.
	f.timers = newTimers(clock, timeouts{sessionEnd: clock.Now().Add(10 * time.Second)}, f)
	f.timers.start()
	for range 300 {
		clock.Advance(100 * time.Millisecond)
	}
	if want := []string{"end SESSION_TIMEOUT@10s"}; !happened(f.done, want) {
		t.Errorf("did %v, want %v", f.done, want)
	}
}

func TestIdleSessionIsLookedAtSeldom(t *testing.T) {
	tm := newTimers(faketime.NewManualClock(), timeouts{dpd: 90 * time.Second, switchToTCP: 25 * time.Second}, nil)
	if got := tm.period(false); got < 5*time.Second {
		t.Errorf("an idle session is looked at every %v", got)
	}
	if got := tm.period(true); got > time.Second {
		t.Errorf("a busy session is looked at every %v", got)
	}
}
