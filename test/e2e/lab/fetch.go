package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Transfer is one HTTP transfer between a client and tgt.
type Transfer struct {
	Host   string // of tgt, Tgt4 or Tgt6
	Upload bool   // else a download
	QUIC   bool   // HTTP/3
	Text   bool   // it can be compressed
	Bytes  int64
	Rate   int64  // bytes per second; 0 is no limit
	Device string // if not empty, only this device is used, as of one tunnel among many
}

// Transferred is how a Transfer ended.
type Transferred struct {
	Err     string // empty if every byte arrived, as the checksums of both ends say
	Seconds float64
}

// Fetch runs transfers in a namespace, all at once.
func Fetch(n Netns, limit time.Duration, all ...Transfer) ([]Transferred, error) {
	return ask[[]Transfer, []Transferred](n, roleFetch, all, limit)
}

// fetch is the role.
func fetch(all []Transfer) ([]Transferred, error) {
	done := make([]Transferred, len(all))
	var wg sync.WaitGroup
	for i, t := range all {
		wg.Go(func() {
			began := time.Now()
			if err := t.run(); err != nil {
				done[i].Err = err.Error()
			}
			done[i].Seconds = time.Since(began).Seconds()
		})
	}
	wg.Wait()
	return done, nil
}

func (t Transfer) client() *http.Client {
	if t.QUIC {
		return quicClient()
	}
	dialer := &net.Dialer{Timeout: 20 * time.Second}
	if t.Device != "" {
		dialer.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), t.Device) })
			return errors.Join(cerr, err)
		}
	}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableCompression: true}}
}

func (t Transfer) run() error {
	base := "http://" + net.JoinHostPort(t.Host, fmt.Sprint(PortHTTP))
	if t.QUIC {
		base = "https://" + net.JoinHostPort(t.Host, fmt.Sprint(PortQUIC))
	}
	if t.Upload {
		return t.upload(base + "/upload")
	}
	return t.download(fmt.Sprintf("%s/bytes?n=%d&rate=%d&text=%v", base, t.Bytes, t.Rate, t.Text))
}

func (t Transfer) download(url string) error {
	resp, err := t.client().Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, resp.Body)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	return t.compare(n, hex.EncodeToString(sum.Sum(nil)), resp.Trailer.Get(sumTrailer))
}

func (t Transfer) upload(url string) error {
	sum := sha256.New()
	stream := newStream
	if t.Text {
		stream = newText
	}
	body := io.TeeReader(stream(t.Bytes), sum)
	if t.Rate > 0 {
		body = &paced{r: body, rate: t.Rate, began: time.Now()}
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, body)
	if err != nil {
		return err
	}
	req.ContentLength = t.Bytes
	resp, err := t.client().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var got received
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return fmt.Errorf("answer to the upload: %w", err)
	}
	return t.compare(got.Bytes, got.SHA256, hex.EncodeToString(sum.Sum(nil)))
}

// paced lets a reader have no more bytes than its rate allows by now.
type paced struct {
	r     io.Reader
	rate  int64 // bytes per second
	began time.Time
	given int64
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	due := time.Duration(p.given) * time.Second / time.Duration(p.rate)
	time.Sleep(due - time.Since(p.began))
	n, err := p.r.Read(b[:min(len(b), 16<<10)])
	p.given += int64(n)
	return n, err
}

func (t Transfer) compare(n int64, got, want string) error {
	if n != t.Bytes {
		return fmt.Errorf("%d of %d bytes", n, t.Bytes)
	}
	if got != want || len(got) != 2*sha256.Size {
		return fmt.Errorf("SHA-256 is %q on one side, %q on the other", got, want)
	}
	return nil
}
