package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Bounds of what a client may send before it is logged in (ocserv's since 1.5.0).
const (
	MaxHeader   = 16 << 10  // request line and fields, bytes
	MaxBody     = 256 << 10 // bytes
	MaxRequests = 16        // per connection, CONNECT not counted

	maxFields = 100
	maxMethod = 24
)

// Errors of Reader.Next. After any of them the connection is to be closed.
var (
	ErrMalformed        = errors.New("wire: malformed request")
	ErrHTTPVersion      = errors.New("wire: not HTTP/1.0 or HTTP/1.1")
	ErrHeaderTooLarge   = errors.New("wire: request header is too large")
	ErrBodyTooLarge     = errors.New("wire: request body is too large")
	ErrTransferEncoding = errors.New("wire: request with Transfer-Encoding")
	ErrPipelined        = errors.New("wire: bytes after a request that was not answered")
	ErrTooManyRequests  = errors.New("wire: too many requests on one connection")
)

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// Reader reads the requests of one connection, one at a time: what a client
// sends before it has its answer is an error, so that no reply can be taken
// for that of another request (ocserv issue 716). Not for concurrent use.
type Reader struct {
	src   io.Reader
	buf   []byte // buf[r:w] has been read and not been taken
	r, w  int
	count int
	err   error // kept
}

// NewReader returns a Reader of src.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, 2<<10)}
}

// Buffered returns what was read after the last request: the first bytes of
// the tunnel after a CONNECT, else nothing but possibly an empty line. Valid
// until Next.
func (r *Reader) Buffered() []byte { return r.buf[r.r:r.w] }

// Next reads the next request. The error is io.EOF if the client closed the
// connection between requests, io.ErrUnexpectedEOF if within one, one of the
// errors above, or the source's own.
func (r *Reader) Next() (*Request, error) {
	if r.err != nil {
		return nil, r.err
	}
	req, err := r.next()
	if err != nil {
		r.err = err
		return nil, err
	}
	return req, nil
}

func (r *Reader) next() (*Request, error) {
	n, err := r.scanHead()
	if err != nil {
		return nil, err
	}
	req, length, err := parseHead(string(r.buf[r.r : r.r+n]))
	if err != nil {
		return nil, err
	}
	r.take(n)
	if req.Method == "CONNECT" {
		if length != 0 {
			return nil, malformed("CONNECT with a body")
		}
		return req, nil // what follows is the tunnel
	}
	if r.count++; r.count > MaxRequests {
		return nil, ErrTooManyRequests
	}
	if req.Body, err = r.body(length); err != nil {
		return nil, err
	}
	if !emptyLine(r.Buffered()) {
		req.Clear()
		return nil, ErrPipelined
	}
	return req, nil
}

// emptyLine says whether b is a beginning of the one empty line that a client
// may send between requests (RFC 9112 section 2.2).
func emptyLine(b []byte) bool { return len(b) <= 2 && bytes.HasPrefix([]byte("\r\n"), b) }

// take removes n bytes from the buffer and wipes them: they may hold a cookie
// or a password.
func (r *Reader) take(n int) {
	clear(r.buf[r.r : r.r+n])
	r.r += n
}

// scanHead reads until the buffer holds a request's head, and returns its length
// with the empty line that ends it.
func (r *Reader) scanHead() (int, error) {
	line, at := 0, 0 // where the current line starts, where to look on; from r.r
	skipped := false
	for {
		b := r.Buffered()
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			if !plausible(b) {
				return 0, malformed("not HTTP")
			}
			if at = len(b); at >= MaxHeader {
				return 0, ErrHeaderTooLarge
			}
			if err := r.fill(); err != nil {
				return 0, err
			}
			continue
		}
		end := at + i // of the line, its "\n"
		if end == line || b[end-1] != '\r' {
			return 0, malformed("line without CR")
		}
		empty := end-1 == line
		at, line = end+1, end+1
		switch {
		case empty && at > 2:
			return at, nil
		case empty && skipped:
			return 0, malformed("empty lines")
		case empty: // before the request line
			r.take(2)
			line, at, skipped = 0, 0, true
		}
	}
}

// plausible says whether b can be the beginning of a request: garbage is to be
// refused when it comes, not when a timeout strikes.
func plausible(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte("\r"))
	for i, c := range b {
		if c == ' ' {
			return i > 0
		}
		if !isToken(c) || i >= maxMethod {
			return false
		}
	}
	return true
}

// fill reads once. The buffer grows up to the largest head; the caller does not
// ask for more when it holds one.
func (r *Reader) fill() error {
	if r.r > 0 {
		n := copy(r.buf, r.buf[r.r:r.w])
		clear(r.buf[n:r.w])
		r.r, r.w = 0, n
	}
	if r.w == len(r.buf) {
		old := r.buf
		r.buf = make([]byte, min(2*len(old), MaxHeader))
		copy(r.buf, old)
		clear(old)
	}
	for range 8 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		switch {
		case n > 0:
			return nil
		case err == io.EOF && !emptyLine(r.Buffered()):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// body reads n bytes.
func (r *Reader) body(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, n)
	have := copy(b, r.Buffered())
	r.take(have)
	if _, err := io.ReadFull(r.src, b[have:]); err != nil {
		clear(b)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}
