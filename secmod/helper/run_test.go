package helper

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/sandbox"
)

// scripted is a method whose user says what is to happen.
type scripted struct {
	ended chan string // users whose dialogue was ended
}

func (m *scripted) Begin(ctx context.Context, a Applicant) (Dialogue, Verdict) {
	d := &scriptedLogin{m: m, who: a}
	switch a.User {
	case "at-once":
		return nil, admitted(a.User)
	case "never":
		return nil, Verdict{Why: "no such user"}
	case "panic":
		panic("holds a secret")
	case "waits":
		<-ctx.Done()
		return d, Verdict{Outcome: Unavailable, Why: "nobody waits"}
	}
	return d, Verdict{Outcome: Ask, Prompt: "Password for " + a.User}
}

type scriptedLogin struct {
	m     *scripted
	who   Applicant
	asked int
}

func (d *scriptedLogin) Answer(ctx context.Context, answer []byte) Verdict {
	d.asked++
	switch string(answer) {
	case "right":
		return admitted(d.who.User)
	case "more":
		return Verdict{Outcome: Ask, Prompt: "Code", Counter: 1}
	case "down":
		return Verdict{Outcome: Unavailable, Why: "no server answers"}
	case "wait":
		<-ctx.Done()
		return Verdict{Outcome: Unavailable, Why: ctx.Err().Error()}
	case "huge":
		return Verdict{Outcome: Ask, Prompt: strings.Repeat("x", ipc.MaxRecord)}
	case "garbage":
		return Verdict{Outcome: Ask, Prompt: "\xff\xfe"}
	case "crash":
		var none []int
		_ = none[d.asked]
	}
	return Verdict{Wrong: true, Why: "wrong answer"}
}

func (d *scriptedLogin) End() { d.m.ended <- d.who.User }

func admitted(user string) Verdict {
	return Verdict{Outcome: Admit, User: user, Groups: []string{"staff"}, Grant: Grant{
		IPv4: netip.MustParseAddr("10.0.0.7"), Routes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, SessionTimeout: time.Hour,
	}}
}

// rig is a helper whose sec-mod is this test.
type rig struct {
	t      *testing.T
	secmod *ipc.Conn
	method *scripted
	log    *safeBuffer
	end    chan error
	id     uint32
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newRig(t *testing.T, prep ...func(*Options)) *rig {
	near, far, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	its, err := ipc.NewConn(far)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, secmod: near, method: &scripted{ended: make(chan string, 100)}, log: new(safeBuffer), end: make(chan error, 1)}
	o := Options{SecMod: its, Log: slog.New(slog.NewTextHandler(r.log, nil)), Kind: Kind{Make: func(options map[string]string, _ Logger) (Made, error) {
		if options["config"] == "missing" {
			return Made{}, errors.New("missing: no such file")
		}
		return Made{Method: r.method, Warnings: []string{"a warning"}}, nil
	}}}
	for _, p := range prep {
		p(&o)
	}
	go func() { r.end <- Run(o) }()
	t.Cleanup(func() { near.Close() })
	return r
}

func (r *rig) configure(config ...string) *ipc.HelperReady {
	r.t.Helper()
	m := new(ipc.HelperConfig)
	for _, c := range config {
		m.Methods = append(m.Methods, &ipc.HelperMethod{Options: map[string]string{"config": c}})
	}
	rep := new(ipc.HelperReady)
	if err := r.secmod.Call(ipc.HelperConfigT, m, ipc.HelperReadyT, rep); err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// TestTogether: lines of acct that cannot be in effect together are refused, and a
// line of auth is none of them.
func TestTogether(t *testing.T) {
	for accounts, want := range map[int]string{1: "", 2: "they clash"} {
		r := newRig(t, func(o *Options) {
			o.Kind.MakeAccount = o.Kind.Make
			o.Kind.Together = func(lines []map[string]string) error {
				if len(lines) > 1 {
					return errors.New("they clash")
				}
				return nil
			}
		})
		m := &ipc.HelperConfig{Methods: []*ipc.HelperMethod{{Options: map[string]string{}}}}
		for range accounts {
			m.Methods = append(m.Methods, &ipc.HelperMethod{Options: map[string]string{}, Account: true})
		}
		rep := new(ipc.HelperReady)
		if err := r.secmod.Call(ipc.HelperConfigT, m, ipc.HelperReadyT, rep); err != nil || rep.Error != want {
			t.Errorf("%d of acct: %q, %v", accounts, rep.Error, err)
		}
	}
}

func ready(t *testing.T) *rig {
	r := newRig(t)
	if rep := r.configure("a", "b"); rep.Error != "" || len(rep.Warnings) != 1 {
		t.Fatalf("%v", rep)
	}
	return r
}

func (r *rig) send(t ipc.Type, m ipc.Message) uint32 {
	r.t.Helper()
	r.id++
	if err := r.secmod.Send(t, r.id, m); err != nil {
		r.t.Fatal(err)
	}
	return r.id
}

func (r *rig) verdict(id uint32) *ipc.HelperVerdict {
	r.t.Helper()
	rec, err := r.secmod.Recv()
	m := new(ipc.HelperVerdict)
	if err != nil || rec.Type != ipc.HelperVerdictT || rec.ID != id || rec.Decode(m) != nil {
		r.t.Fatalf("%v with id %d instead of a verdict on %d: %v", rec.Type, rec.ID, id, err)
	}
	return m
}

func (r *rig) begin(login uint64, user string) *ipc.HelperVerdict {
	r.t.Helper()
	return r.verdict(r.send(ipc.HelperBeginT, &ipc.HelperBegin{Login: login, User: user}))
}

func (r *rig) answer(login uint64, answer string) *ipc.HelperVerdict {
	r.t.Helper()
	return r.verdict(r.send(ipc.HelperAnswerT, &ipc.HelperAnswer{Login: login, Answer: []byte(answer)}))
}

func (r *rig) wantEnded(users ...string) {
	r.t.Helper()
	for _, want := range users {
		select {
		case got := <-r.method.ended:
			if got != want {
				r.t.Errorf("%q ended, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			r.t.Fatalf("%q does not end", want)
		}
	}
	select {
	case got := <-r.method.ended:
		r.t.Errorf("%q ended too", got)
	default:
	}
}

// TestSteps: what a method says is what sec-mod hears, and each dialogue ends once.
func TestSteps(t *testing.T) {
	r := ready(t)
	for i, tt := range []struct {
		user    string
		answers []string
		want    string
		ended   bool
	}{
		{"at-once", nil, "ADMIT", false},
		{"never", nil, "REFUSED no such user", false},
		{"panic", nil, "UNAVAILABLE internal error of the login helper", false},
		{"anna", []string{"right"}, "ASK ADMIT", true},
		{"anna", []string{"guess"}, "ASK REFUSED wrong answer", true},
		{"anna", []string{"more", "right"}, "ASK ASK ADMIT", true},
		{"anna", []string{"down"}, "ASK UNAVAILABLE no server answers", true},
		{"anna", []string{"crash"}, "ASK UNAVAILABLE internal error of the login helper", true},
		{"anna", []string{"huge"}, "ASK UNAVAILABLE its server says more than a message holds", true},
		{"anna", []string{"garbage", "right"}, "ASK ASK ADMIT", true},
	} {
		login := uint64(i + 1)
		v := r.begin(login, tt.user)
		got := []string{strings.TrimPrefix(v.Outcome.String(), "HELPER_")}
		for _, a := range tt.answers {
			v = r.answer(login, a)
			got = append(got, strings.TrimPrefix(v.Outcome.String(), "HELPER_"))
		}
		if s := strings.TrimSpace(strings.Join(got, " ") + " " + v.Why); s != tt.want {
			t.Errorf("%s %v: %s, want %s", tt.user, tt.answers, s, tt.want)
		}
		if v.Outcome == ipc.HelperOutcome_HELPER_ADMIT {
			if g := v.Grant; v.User != tt.user || v.Groups[0] != "staff" || ipc.Addr(g.Ipv4).String() != "10.0.0.7" ||
				ipc.Prefix(g.Routes[0]).String() != "10.1.0.0/16" || g.SessionTimeoutS != 3600 {
				t.Errorf("%s is admitted as %v", tt.user, v)
			}
		} else if v.User != "" || v.Grant != nil {
			t.Errorf("%s is not admitted, and still %v", tt.user, v)
		}
		if tt.ended {
			r.wantEnded(tt.user)
		} else {
			r.wantEnded()
		}
		if v := r.answer(login, "right"); v.Outcome != ipc.HelperOutcome_HELPER_UNAVAILABLE {
			t.Errorf("%s %v: an answer after the end: %v", tt.user, tt.answers, v)
		}
	}
	if strings.Contains(r.log.String(), "holds a secret") {
		t.Error("the log has what a panic held")
	}
}

// TestNobodyWaitsForOthers: a login whose server does not answer holds up itself,
// and nothing any more once it is cancelled.
func TestNobodyWaitsForOthers(t *testing.T) {
	r := ready(t)
	slow := r.send(ipc.HelperBeginT, &ipc.HelperBegin{Login: 1, User: "waits"})
	r.begin(2, "bert")
	slower := r.send(ipc.HelperAnswerT, &ipc.HelperAnswer{Login: 2, Answer: []byte("wait")})
	r.begin(3, "anna")
	if v := r.answer(3, "right"); v.Outcome != ipc.HelperOutcome_HELPER_ADMIT {
		t.Fatalf("%v", v)
	}
	r.wantEnded("anna")
	r.begin(4, "carl")
	r.secmod.Send(ipc.HelperCancelT, 0, &ipc.HelperCancel{Login: 4})
	r.wantEnded("carl")
	r.secmod.Send(ipc.HelperCancelT, 0, &ipc.HelperCancel{Login: 2})
	r.verdict(slower)
	r.wantEnded("bert")
	r.secmod.Send(ipc.HelperCancelT, 0, &ipc.HelperCancel{Login: 1})
	r.verdict(slow)
	r.wantEnded("waits")
	r.secmod.Send(ipc.HelperCancelT, 0, &ipc.HelperCancel{Login: 99})
	r.begin(5, "anna")
}

// TestConfiguration: what cannot be opened is said, and is the end.
func TestConfiguration(t *testing.T) {
	r := newRig(t)
	if rep := r.configure("a", "missing"); rep.Error != "missing: no such file" {
		t.Errorf("%v", rep)
	}
	if err := <-r.end; err == nil || errors.Is(err, ErrSecModGone) {
		t.Errorf("ended with %v", err)
	}
	r = newRig(t, func(o *Options) {
		o.Confine = func(sandbox.Files) (sandbox.Report, error) {
			return sandbox.Report{Reached: []string{"nothing"}, Missing: []string{"Landlock"}}, errors.New("require-confinement")
		}
	})
	if rep := r.configure("a"); rep.Error != "require-confinement" {
		t.Errorf("%v", rep)
	}
	<-r.end
	r = ready(t)
	r.secmod.Close()
	if err := <-r.end; !errors.Is(err, ErrSecModGone) {
		t.Errorf("ended with %v", err)
	}
}

// TestViolations: what sec-mod never says ends the helper.
func TestViolations(t *testing.T) {
	for _, tt := range []struct {
		name string
		say  func(*rig)
	}{
		{"a login that is there", func(r *rig) {
			r.begin(1, "anna")
			r.send(ipc.HelperBeginT, &ipc.HelperBegin{Login: 1, User: "anna"})
		}},
		{"a method that is not there", func(r *rig) { r.send(ipc.HelperBeginT, &ipc.HelperBegin{Login: 1, Method: 2}) }},
		{"two answers at once", func(r *rig) {
			r.begin(1, "anna")
			r.send(ipc.HelperAnswerT, &ipc.HelperAnswer{Login: 1, Answer: []byte("wait")})
			r.send(ipc.HelperAnswerT, &ipc.HelperAnswer{Login: 1, Answer: []byte("right")})
		}},
		{"a second configuration", func(r *rig) { r.send(ipc.HelperConfigT, new(ipc.HelperConfig)) }},
		{"another's message", func(r *rig) { r.send(ipc.SecmWorkerT-1, new(ipc.Nothing)) }},
	} {
		r := ready(t)
		tt.say(r)
		if err := <-r.end; !errors.Is(err, ipc.ErrViolation) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	r := newRig(t)
	r.send(ipc.HelperBeginT, new(ipc.HelperBegin))
	if err := <-r.end; !errors.Is(err, ipc.ErrViolation) {
		t.Errorf("a login before the configuration: %v", err)
	}
}
