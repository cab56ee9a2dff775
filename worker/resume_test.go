package worker

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// tickets is sec-mod's store, for tests: a ticket is a number.
type tickets struct {
	mu     sync.Mutex
	shared *tickets // another worker's, which is asked in this one's place
	states [][]byte
}

// share has s give out and know what of does.
func (s *tickets) share(of *tickets) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared = of
}

func (s *tickets) seal(state []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared != nil {
		return s.shared.seal(state)
	}
	s.states = append(s.states, bytes.Clone(state))
	return []byte{byte(len(s.states))}
}

func (s *tickets) open(ticket []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared != nil {
		return s.shared.open(ticket)
	}
	if len(ticket) != 1 || int(ticket[0]) > len(s.states) {
		return nil
	}
	return bytes.Clone(s.states[ticket[0]-1])
}

// A client resumes at another worker without a signature, and its login tells the
// hash of the certificate that it has seen at the first one.
func TestResumption(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			cache := tls.NewLRUClientSessionCache(1)
			first := newWorld(t, nil, nil)
			c := first.dialBy(cache, version)
			c.request("GET", "/1/Linux", "") // a ticket of TLS 1.3 comes with the first bytes
			sum := fmt.Sprintf("%X", c.sum)
			for range 2 {
				other := newWorld(t, nil, nil)
				other.tickets.share(first.tickets)
				c := other.dialBy(cache, version)
				if !c.tls.ConnectionState().DidResume {
					t.Fatal("not resumed")
				}
				_, head, body := c.request("POST", "/auth", authReply(rightAnswers))
				if !strings.Contains(body, "<server-cert-hash>"+sum+"<") || !strings.Contains(head, "sh:"+sum) {
					t.Errorf("login without the hash %s: %s%s", sum, head, body)
				}
				other.mu.Lock()
				if other.signed != 0 {
					t.Errorf("%d signatures", other.signed)
				}
				other.mu.Unlock()
			}
			stranger := newWorld(t, nil, nil) // whose sec-mod knows no such ticket
			if c := stranger.dialBy(cache, version); c.tls.ConnectionState().DidResume {
				t.Error("resumed with a ticket that is none")
			}
		})
	}
}
