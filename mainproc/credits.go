package mainproc

import (
	"cmp"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"rocserv/internal/ipc"
)

const (
	portBlock   = 32  // what workers ask for are multiples of it: nat.PortBlock
	usualFlows  = 512 // of UDP that a client may have: nat.Limits
	portReserve = 4   // one in so many of the host's local ports is left to others

	saySeldom = 10 * time.Minute // that ports have run out
)

// credits divides the host's local UDP ports among the workers, each of whose
// mappings is a socket with a port of its own: what one client opens must not
// leave the others, or the host, without. IPv4 and IPv6 have each their own ports,
// but are counted together.
//
// Every worker with a tunnel can have least, whatever the others hold; the rest
// goes to who asks first. Workers ask in blocks before they are in need, and give
// back what they have not used for a while (nat.Table). What a worker held is
// there again when its process is gone.
type credits struct {
	mu    sync.Mutex
	total int
	least int // of them for each worker
	rest  int // for all together, beyond least
	held  map[*worker]int
	over  int // of rest, that are held

	refused uint64 // questions answered with less than was asked for
	said    time.Time
}

// size says how many ports there are, and for how many workers at most. Where
// there are fewer now, who holds any keeps them.
func (c *credits) size(total, workers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	workers = max(workers, 1)
	c.total, c.least = total, min(portBlock, max(total/2/workers, min(total/workers, 1)))
	c.rest = total - c.least*workers
	c.over = 0
	for _, n := range c.held {
		c.over += max(0, n-c.least)
	}
}

// set notes what a worker holds. c.mu is held.
func (c *credits) set(w *worker, n int) {
	if c.held == nil {
		c.held = make(map[*worker]int)
	}
	c.over += max(0, n-c.least) - max(0, c.held[w]-c.least)
	if c.held[w] = n; n == 0 {
		delete(c.held, w)
	}
}

// open gives a worker its least, and what the keepers of its session hold: their
// mappings go over to it.
func (c *credits) open(w *worker, keepers []*worker) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.held[w]
	for _, k := range keepers {
		n += c.held[k]
		c.set(k, 0)
	}
	n = max(n, c.least)
	c.set(w, n)
	return n
}

// more gives a worker n ports, or as many as there are, but never more than most
// in all. say: it is time to say that there are no more.
func (c *credits) more(w *worker, n, most int, now time.Time) (given int, say bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	has := c.held[w]
	given = max(0, min(n, most-has, max(0, c.least-has)+max(0, c.rest-c.over)))
	c.set(w, has+given)
	if given == n {
		return given, false
	}
	c.refused++
	if has+given >= most || now.Sub(c.said) < saySeldom {
		return given, false
	}
	c.said = now
	return given, true
}

// back takes n ports from a worker; false if it has not got them.
func (c *credits) back(w *worker, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > c.held[w] {
		return false
	}
	c.set(w, c.held[w]-n)
	return true
}

// restore notes what a worker of the main before holds.
func (c *credits) restore(w *worker, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(w, n)
}

// leave takes all that a worker holds: it is gone.
func (c *credits) leave(w *worker) { c.restore(w, 0) }

// of is what a worker holds.
func (c *credits) of(w *worker) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[w]
}

// look is how many ports there are, how many of them are held, and how often
// there were not enough.
func (c *credits) look() (total, held int, refused uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.held {
		held += n
	}
	return c.total, held, c.refused
}

// answerPorts: the worker wants ports, or gives some back. One that a newer
// worker has taken over from has none any more.
func (w *worker) answerPorts(rec *ipc.Record) error {
	m := new(ipc.Ports)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if m.More > 1<<16 || m.Back > 1<<16 {
		return violation("PORTS_REQ for %d and %d ports", m.More, m.Back)
	}
	if w.current()&(tunnel|detached) == 0 {
		return nil
	}
	c := &w.srv.credits
	if !c.back(w, int(m.Back)) {
		return violation("PORTS_REQ gives back %d ports of %d", m.Back, c.of(w))
	}
	if m.More == 0 {
		return nil
	}
	most := usualFlows
	if d := w.about.Load(); d != nil {
		most = cmp.Or(int(d.config.GetLimits().GetUdpFlows()), most)
	}
	given, say := c.more(w, int(m.More), most+portBlock, time.Now())
	if say {
		total, held, refused := c.look()
		w.log().Warn("local UDP ports for clients have run out (net.ipv4.ip_local_port_range)", "ports", total, "held", held, "refused", refused)
	}
	w.tell(ipc.PortsT, &ipc.Ports{More: uint32(given)})
	return nil
}

// sharedPorts is how many local UDP ports clients may have together.
func sharedPorts() int {
	between, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	except, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	n := localPorts(string(between), string(except))
	return n - n/portReserve
}

// localPorts is how many ports the kernel has to choose from, of the range
// between but those of the list except (ip(7)); where it does not say, of the
// range that it has by default.
func localPorts(between, except string) int {
	first, last := 32768, 60999
	if f := strings.Fields(between); len(f) == 2 {
		a, err := strconv.ParseUint(f[0], 10, 16)
		b, err2 := strconv.ParseUint(f[1], 10, 16)
		if err == nil && err2 == nil && a <= b {
			first, last = int(a), int(b)
		}
	}
	n := last - first + 1
	for part := range strings.SplitSeq(strings.TrimSpace(except), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		if err == nil && err2 == nil {
			n -= max(0, min(int(b), last)-max(int(a), first)+1)
		}
	}
	return max(n, 0)
}
