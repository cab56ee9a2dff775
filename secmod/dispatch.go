package secmod

import (
	"fmt"
	"strings"

	"rocserv/internal/ipc"
)

// state is where a channel stands. The diagram is in doc.go.
type state uint16

const (
	// A worker's channel.
	fresh         state = 1 << iota // named by main, nothing asked yet
	resumed                         // the client's ticket was opened
	signed                          // the handshake got its signature
	inAuth                          // a login was begun or continued here
	authenticated                   // a login was completed here
	open                            // main opened a session for this worker
	rejoined                        // had a channel to the sec-mod before this one; nothing asked here yet
	closed                          // nothing more is answered

	// Main's channel.
	starting // no configuration yet
	running
)

// row is one line of the table: who may say a message, when, how often, and
// what is done. Exactly one of main and worker is set: it says from whom.
type row struct {
	in        state // any of these
	most      int   // times on one channel; 0: no bound
	perMinute int   // on average, with as many at once; 0: no bound
	main      func(*server, *ipc.Record) error
	worker    func(*worker, *ipc.Record) error
}

// table is everything sec-mod can be asked. What has no line here, comes from
// somebody else, in another state or too often ends the channel it came on.
func table() map[ipc.Type]row {
	const handshake = resumed | signed | rejoined
	const begin = fresh | resumed | rejoined
	const attempts = 16 // HTTP requests a worker takes before CONNECT (ocserv, MAX_HTTP_REQUESTS)

	return map[ipc.Type]row{
		// From main.
		ipc.SecmConfigT:        {in: starting | running, main: (*server).configure},
		ipc.SecmHelperT:        {in: starting | running, main: (*server).takeHelper},
		ipc.SecmWorkerT:        {in: running, main: (*server).nameWorker},
		ipc.SecmSessionOpenT:   {in: running, main: answers(ipc.SecmSessionReplyT, (*server).openSession)},
		ipc.SecmSessionLeasedT: {in: running, main: (*server).leased},
		ipc.SecmRestoreT:       {in: running, main: (*server).restore},
		ipc.SecmSessionCloseT:  {in: running, main: answers(ipc.SecmCliStatsT, (*server).closeSession)},
		ipc.SecmStatsReqT:      {in: running, main: answers(ipc.SecmStatsT, (*server).statistics)},
		ipc.SecmListCookiesT:   {in: running, main: answers(ipc.SecmCookiesT, (*server).listCookies)},
		ipc.SecmListLimitsT:    {in: running, main: answers(ipc.SecmLimitsT, (*server).listLimits)},
		ipc.SecmLiftT:          {in: running, main: answers(ipc.SecmLiftedT, (*server).lift)},
		ipc.SecmTerminateT:     {in: running, main: answers(ipc.SecmTerminateRepT, (*server).terminate)},

		// From a worker, during the TLS handshake. crypto/tls looks at five
		// tickets of a ClientHello at most, and one HelloRetryRequest does
		// not sign: one connection, one signature.
		ipc.ResumeOpenT: {in: begin, most: 8, worker: asks(ipc.ResumeRepT, (*worker).resumeOpen)},
		ipc.SignT:       {in: begin, most: 1, worker: asks(ipc.SignRepT, (*worker).sign)},
		ipc.ResumeSealT: {in: handshake, most: 2, worker: asks(ipc.ResumeRepT, (*worker).resumeSeal)},

		// Login. One request may begin two: with the certificate, and with a ticket.
		ipc.AuthInitT: {in: handshake | inAuth, most: 2 * attempts, worker: asks(ipc.AuthReplyT, (*worker).authInit)},
		ipc.AuthContT: {in: handshake | inAuth, most: attempts, worker: asks(ipc.AuthReplyT, (*worker).authCont)},
		ipc.KDCT:      {in: handshake | inAuth | authenticated, most: attempts, worker: asks(ipc.KDCRepT, (*worker).askKDC)},
		ipc.BrowseT:   {in: handshake | inAuth, most: attempts, worker: asks(ipc.BrowsedT, (*worker).browse)},
		ipc.ProfileT:  {in: handshake | inAuth | authenticated, most: attempts, worker: (*worker).profile},

		// Tunnel.
		ipc.CliStatsT: {in: open, perMinute: 60, worker: tells((*worker).cliStats)},
		ipc.WaySignT:  {in: open, perMinute: ipc.WaySignsPerMinute, worker: asks(ipc.WaySignRepT, (*worker).waySign)},
	}
}

// message is a pointer to a generated type.
type message[T any] interface {
	*T
	ipc.Message
}

// asks makes a line's function of one that answers a worker.
func asks[Q any, PQ message[Q], A ipc.Message](t ipc.Type, f func(*worker, PQ) (A, error)) func(*worker, *ipc.Record) error {
	return func(w *worker, rec *ipc.Record) error {
		q := PQ(new(Q))
		if err := rec.Decode(q); err != nil {
			return err
		}
		a, err := f(w, q)
		if err != nil {
			return err
		}
		return w.conn.Send(t, 0, a)
	}
}

// tells makes a line's function of one without an answer.
func tells[Q any, PQ message[Q]](f func(*worker, PQ) error) func(*worker, *ipc.Record) error {
	return func(w *worker, rec *ipc.Record) error {
		q := PQ(new(Q))
		if err := rec.Decode(q); err != nil {
			return err
		}
		return f(w, q)
	}
}

// answers makes a line's function of one that answers main, on a goroutine of
// its own: no request of main's waits for another. Descriptors that
// are returned go with the answer and are closed.
func answers[Q any, PQ message[Q], A ipc.Message](t ipc.Type, f func(*server, PQ) (A, []int, error)) func(*server, *ipc.Record) error {
	return func(s *server, rec *ipc.Record) error {
		q, id := PQ(new(Q)), rec.ID
		if err := rec.Decode(q); err != nil {
			return err
		}
		go func() {
			a, fds, err := f(s, q)
			if err != nil {
				s.fail(err)
				return
			}
			s.reply(t, id, a, fds...)
		}()
		return nil
	}
}

// violation is an error that ends a channel.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ipc.ErrViolation, fmt.Sprintf(format, args...))
}

func (s state) String() string {
	names := [...]string{"fresh", "resumed", "signed", "inAuth", "authenticated", "open", "rejoined", "closed", "starting", "running"}
	var set []string
	for i, name := range names {
		if s&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, "|")
}
