package occtl

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"rocserv/internal/control"
)

// `rocserv top` asks the server again and again and draws what it says as one
// frame: a function of two answers, so that rates are those in between.

const topUsage = `Usage: rocserv top [-s FILE] [-d SECONDS] [--sort COLUMN] [--once]

   -s FILE       the control socket
   -d SECONDS    between two looks (2)
   --sort COLUMN user, ip, since, down, up or total (down)
   --once        print one view and exit, for scripts

Keys: u user, i ip, s since, d down, p up, t total; r turns the order round; q ends
`

// view is what one look at the server gives.
type view struct {
	at       time.Time
	status   control.Status
	sessions []control.Session
}

// order is by which column rows are sorted.
type order struct {
	column  byte // a key of columns
	reverse bool
}

// column is a row's place in an order.
type column struct {
	name    string
	compare func(a, b topRow) int
}

// columns are sorted so that what one looks for comes first: the fastest, the
// newest, the first of the alphabet.
var columns = map[byte]column{
	'u': {"user", func(a, b topRow) int { return cmp.Compare(a.User, b.User) }},
	'i': {"ip", func(a, b topRow) int { return cmp.Compare(a.IPv4+a.IPv6, b.IPv4+b.IPv6) }},
	's': {"since", func(a, b topRow) int { return b.Connected.Compare(a.Connected) }},
	'd': {"down", func(a, b topRow) int { return cmp.Compare(b.down, a.down) }},
	'p': {"up", func(a, b topRow) int { return cmp.Compare(b.up, a.up) }},
	't': {"total", func(a, b topRow) int {
		return cmp.Compare(b.Traffic.TotalRX+b.Traffic.TotalTX, a.Traffic.TotalRX+a.Traffic.TotalTX)
	}},
}

// topRow is a session and its rates, in bytes per second. RX is what came from
// the client: up.
type topRow struct {
	control.Session
	up, down float64
}

// rows joins two looks. A session that is new has no rate yet, and neither has
// one whose worker has not counted in between.
func rows(before, now view, o order) []topRow {
	type key struct {
		session string
		id      int
	}
	was := make(map[key]control.Traffic)
	for _, s := range before.sessions {
		was[key{s.Session, s.ID}] = s.Traffic
	}
	list := make([]topRow, 0, len(now.sessions))
	for _, s := range now.sessions {
		r := topRow{Session: s}
		if old, there := was[key{s.Session, s.ID}]; there {
			took := s.Traffic.At.Sub(old.At).Seconds()
			r.up, r.down = perSecond(old.RX, s.Traffic.RX, took), perSecond(old.TX, s.Traffic.TX, took)
		}
		list = append(list, r)
	}
	c := columns[o.column]
	slices.SortStableFunc(list, func(a, b topRow) int {
		n := cmp.Or(c.compare(a, b), cmp.Compare(a.User, b.User), cmp.Compare(a.ID, b.ID))
		if o.reverse {
			return -n
		}
		return n
	})
	return list
}

func perSecond(was, is uint64, took float64) float64 {
	if took <= 0 || is < was {
		return 0
	}
	return float64(is-was) / took
}

const topLine = "%-16s %-22s %-16s %7s %-4s %11s %11s %11s %6s"

// frame draws a screen of that size; a width or height of 0 is without bound.
// No line of it has a control character but its end.
func frame(before, now view, o order, width, height int) string {
	list := rows(before, now, o)
	var up, down float64
	for _, r := range list {
		up, down = up+r.up, down+r.down
	}
	st := &now.status
	lines := []string{
		fmt.Sprintf("rocserv %s, up %s: %d tunnels, %d away, %d workers, %d banned", clean(st.Version),
			strings.TrimSpace(interval(now.at.Sub(st.Started))), st.ActiveSessions, st.AwaySessions, st.Workers, st.Banned),
		fmt.Sprintf("down %s/s, up %s/s; by %s", speed(down), speed(up), columns[o.column].name+map[bool]string{true: ", reversed"}[o.reverse]),
		"",
		fmt.Sprintf(topLine, "USER", "FROM", "IP", "SINCE", "DTLS", "DOWN/s", "UP/s", "TOTAL", "FLOWS"),
	}
	room := len(list)
	if height > 0 {
		room = min(room, max(0, height-len(lines)-1))
	}
	for _, r := range list[:room] {
		lines = append(lines, r.line(now.at))
	}
	if rest := len(list) - room; rest > 0 {
		lines = append(lines, fmt.Sprintf("... and %d more", rest))
	}
	for i, l := range lines {
		if chars := []rune(l); width > 0 && len(chars) > width {
			lines[i] = string(chars[:width])
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func (r topRow) line(now time.Time) string {
	dtls := "-"
	if r.Channel.DTLS != "" {
		dtls = "yes"
	}
	flows := r.Traffic.More["flows_tcp"] + r.Traffic.More["flows_udp"] + r.Traffic.More["flows_icmp"]
	return fmt.Sprintf(topLine, cut(none(r.User), 16), cut(r.RemoteIP, 22), cut(cmp.Or(r.IPv4, r.IPv6), 16),
		strings.TrimSpace(interval(now.Sub(r.Connected))), dtls, speed(r.down), speed(r.up), human(r.Traffic.TotalRX+r.Traffic.TotalTX), fmt.Sprint(flows))
}

// cut makes foreign text harmless and at most n characters long.
func cut(s string, n int) string {
	r := []rune(clean(s))
	if len(r) > n {
		return string(r[:n-1]) + "+"
	}
	return string(r)
}

// speed is a number of bytes that need not be whole.
func speed(f float64) string { return human(uint64(f)) }

// top is the command while it runs.
type top struct {
	*session
	every time.Duration
	order order
}

// Top runs `rocserv top` and returns its exit status.
func Top(args []string, io IO) int {
	t := &top{session: &session{IO: io, places: control.Places("")}, order: order{column: 'd'}}
	f := flag.NewFlagSet("top", flag.ContinueOnError)
	f.SetOutput(io.Err)
	f.Usage = func() { fmt.Fprint(io.Err, topUsage) }
	socket := f.String("s", "", "")
	secs := f.Float64("d", 2, "")
	by := f.String("sort", "down", "")
	once := f.Bool("once", false, "")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return statusOK
	} else if err != nil {
		return statusFailed
	}
	if *socket != "" {
		t.places = []string{*socket}
	}
	known := false
	for k, c := range columns {
		if c.name == *by {
			t.order.column, known = k, true
		}
	}
	if !known || f.NArg() > 0 || *secs < 0.5 || *secs > 3600 {
		fmt.Fprint(io.Err, topUsage)
		return statusFailed
	}
	t.every = time.Duration(*secs * float64(time.Second))
	if *once {
		return t.once()
	}
	return t.live()
}

// look asks the server.
func (t *top) look() (v view, err error) {
	var all control.Sessions
	if err = t.call(control.CmdSessions, nil, &all); err == nil {
		err = t.call(control.CmdStatus, nil, &v.status)
	}
	v.sessions, v.at = all.Sessions, time.Now()
	return v, err
}

// once prints one view, with the rates of one interval.
func (t *top) once() int {
	before, err := t.look()
	if err != nil {
		return t.fail(err)
	}
	time.Sleep(t.every)
	now, err := t.look()
	if err != nil {
		return t.fail(err)
	}
	fmt.Fprint(t.Out, frame(before, now, t.order, 0, 0))
	return statusOK
}

// ANSI: another screen and no cursor, and back; to the top, and nothing below.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// live draws until a key ends it.
func (t *top) live() int {
	in, inOK := terminal(t.In)
	out, outOK := terminal(t.Out)
	if !inOK || !outOK {
		return t.fail(errors.New("top needs a terminal; for scripts there is --once"))
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return t.fail(err)
	}
	resized, ended := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGHUP)
	keys := make(chan byte)
	go readKeys(in, keys)
	fmt.Fprint(out, enterScreen)
	err = t.draw(out, keys, resized, ended)
	fmt.Fprint(out, leaveScreen)
	term.Restore(int(in.Fd()), old)
	if err != nil {
		return t.fail(err)
	}
	return statusOK
}

func readKeys(in io.Reader, keys chan<- byte) {
	var b [16]byte
	for {
		n, err := in.Read(b[:])
		if err != nil {
			close(keys)
			return
		}
		for _, k := range b[:n] {
			keys <- k
		}
	}
}

// draw draws a frame whenever there is another answer, a key or a new size. A
// server that does not answer is said on the screen: it may be starting.
func (t *top) draw(out *os.File, keys <-chan byte, resized, ended <-chan os.Signal) error {
	var before, now view
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	trouble := ""
	look := func() {
		v, err := t.look()
		trouble = ""
		if err != nil {
			trouble = clean(err.Error())
			return
		}
		before, now = now, v
	}
	look()
	for {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil {
			return err
		}
		text := frame(before, now, t.order, width, height)
		if trouble != "" {
			text = cut(trouble, max(width, 2)) + "\n" + text
		}
		fmt.Fprint(out, home, screen(text, height), clearBelow)
		select {
		case k, more := <-keys:
			if !more || !t.press(k) {
				return nil
			}
		case <-resized:
		case <-ended:
			return nil
		case <-tick.C:
			look()
		}
	}
}

// screen is a frame for a terminal in raw mode.
func screen(text string, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(height, 1))]
	return strings.Join(lines, clearLine+"\r\n") + clearLine
}

// press acts on a key. false ends the command.
func (t *top) press(k byte) bool {
	const interrupt, escape = 3, 27
	switch {
	case k == 'q' || k == interrupt || k == escape:
		return false
	case k == 'r':
		t.order.reverse = !t.order.reverse
	case columns[k].name != "":
		t.order = order{column: k}
	}
	return true
}
