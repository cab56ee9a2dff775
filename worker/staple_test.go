package worker

import (
	"bytes"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// The OCSP response of a certificate is stapled to it, until it is too old.
func TestStaple(t *testing.T) {
	for name, tt := range map[string]struct {
		until   time.Duration // 0: it does not say
		stapled bool
	}{"for ever": {0, true}, "for an hour": {time.Hour, true}, "until a minute ago": {-time.Minute, false}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) {
				c := wc.Vhosts[0].Chains[0]
				c.OcspResponse = []byte("response")
				if tt.until != 0 {
					c.OcspUntilUnixS = time.Now().Add(tt.until).Unix()
				}
			})
			got := w.dial().tls.ConnectionState().OCSPResponse
			if bytes.Equal(got, []byte("response")) != tt.stapled || !tt.stapled && len(got) > 0 {
				t.Errorf("stapled %q", got)
			}
		})
	}
}
