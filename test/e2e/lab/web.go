package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Hello is what / answers.
const Hello = "hello from behind the VPN\n"

// sumTrailer carries the SHA-256 of a stream after the stream.
const sumTrailer = "X-Sha256"

// httpMux has
//
//	/                     Hello
//	/whoami               the address the request came from
//	/bytes?n=N[&rate=R]   a stream of N bytes, its SHA-256 in a trailer; R is in
//	                      bytes per second; with text=true it can be compressed
//	/upload               (POST) {"Bytes": N, "SHA256": "..."} of what was sent
//
// and says in the log when a stream begins.
func httpMux(log *witness) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, Hello) })
	mux.HandleFunc("GET /whoami", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.RemoteAddr) })
	mux.HandleFunc("GET /bytes", log.sendBytes)
	mux.HandleFunc("POST /upload", log.takeUpload)
	return mux
}

func (l *witness) sendBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "n is a number of bytes", http.StatusBadRequest)
		return
	}
	rate, _ := strconv.ParseInt(r.FormValue("rate"), 10, 64)
	l.print("sending %d bytes to %s", n, r.RemoteAddr)
	w.Header().Set("Trailer", sumTrailer)
	sum := sha256.New()
	stream := newStream
	if r.FormValue("text") == "true" {
		stream = newText
	}
	src := io.TeeReader(stream(n), sum)
	began, sent, b := time.Now(), int64(0), make([]byte, blockSize)
	for {
		n, err := src.Read(b)
		if err == io.EOF {
			break
		}
		if _, err := w.Write(b[:n]); err != nil {
			return
		}
		sent += int64(n)
		pace(r.Context(), began, sent, rate)
	}
	w.Header().Set(sumTrailer, hex.EncodeToString(sum.Sum(nil)))
}

// pace delays writes to a rate in bytes per second; 0 is no limit.
func pace(ctx context.Context, began time.Time, sent, rate int64) {
	if rate <= 0 {
		return
	}
	due := began.Add(time.Duration(float64(sent) / float64(rate) * float64(time.Second)))
	select {
	case <-time.After(time.Until(due)):
	case <-ctx.Done():
	}
}

// received is what /upload answers.
type received struct {
	Bytes  int64
	SHA256 string
}

func (l *witness) takeUpload(w http.ResponseWriter, r *http.Request) {
	l.print("taking %d bytes from %s", r.ContentLength, r.RemoteAddr)
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	json.NewEncoder(w).Encode(received{n, hex.EncodeToString(sum.Sum(nil))})
}
