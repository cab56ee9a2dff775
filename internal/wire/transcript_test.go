package wire

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// conn is one connection of a transcript (testdata/README.md).
type conn struct {
	name   string // of the file, and the number
	client []byte // the requests, up to and with the CONNECT
	server []byte // the replies
	tunnel []byte // what the client sent after the CONNECT
}

// The session cookie of the transcripts, and what we would have given instead:
// ocserv uses another alphabet.
const ocservSID = "c2FtcGxlLXNpZC1zYW1wbGUtc2lkLXNhbXBsZS1zaWQ="

var testSID = FormatSID([]byte("sample-sid-sample-sid-sample-sid"))

// transcripts reads all of them.
func transcripts(tb testing.TB) []conn {
	tb.Helper()
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no transcripts: %v", err)
	}
	var all []conn
	for _, f := range files {
		all = append(all, readTranscript(tb, f)...)
	}
	return all
}

func transcript(tb testing.TB, name string) []conn {
	tb.Helper()
	return readTranscript(tb, filepath.Join("testdata", name+".txt"))
}

func readTranscript(tb testing.TB, file string) []conn {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var conns []conn
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		kind, rest, _ := strings.Cut(s.Text(), " ")
		if kind == "#" {
			if strings.HasPrefix(rest, "connection ") {
				name := strings.TrimSuffix(filepath.Base(file), ".txt")
				conns = append(conns, conn{name: name + "/" + strings.TrimPrefix(rest, "connection ")})
			}
			continue
		}
		text, err := strconv.Unquote(rest)
		if err != nil {
			tb.Fatalf("%s: %q: %v", file, rest, err)
		}
		text = strings.ReplaceAll(text, "webvpn="+ocservSID, "webvpn="+testSID)
		c := &conns[len(conns)-1]
		switch {
		case kind == "<":
			c.server = append(c.server, text...)
		case strings.HasPrefix(text, "STF\x01"):
			c.tunnel = append(c.tunnel, text...)
		default:
			c.client = append(c.client, text...)
		}
	}
	return conns
}

// oneByOne lets requests be read without the next one in the buffer, as a
// client that waits for answers does: it ends a read where a request ends.
type oneByOne struct {
	b []byte
}

func (o *oneByOne) Read(p []byte) (int, error) {
	if len(o.b) == 0 {
		return 0, io.EOF
	}
	n := requestLen(o.b)
	n = copy(p, o.b[:n])
	o.b = o.b[n:]
	return n, nil
}

// requestLen finds the end of the first request by brute force.
func requestLen(b []byte) int {
	head := bytes.Index(b, []byte("\r\n\r\n")) + 4
	if head < 4 {
		return len(b)
	}
	length := 0
	for l := range strings.SplitSeq(string(b[:head]), "\r\n") {
		if v, ok := strings.CutPrefix(l, "Content-Length: "); ok {
			length, _ = strconv.Atoi(v)
		}
	}
	return min(head+length, len(b))
}

// requests reads all requests of a connection.
func (c conn) requests(tb testing.TB) []*Request {
	tb.Helper()
	r := NewReader(&oneByOne{b: bytes.Clone(c.client)})
	var list []*Request
	for {
		req, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			tb.Fatalf("%s, request %d: %v", c.name, len(list)+1, err)
		}
		list = append(list, req)
	}
}

func TestTranscripts(t *testing.T) {
	connects := 0
	for _, c := range transcripts(t) {
		t.Run(c.name, func(t *testing.T) {
			reqs := c.requests(t)
			if len(reqs) == 0 {
				t.Fatal("no requests")
			}
			for _, r := range reqs {
				checkCaptured(t, r)
				if r.IsTunnel() {
					connects++
				}
			}
			for tunnel := c.tunnel; len(tunnel) > 0; {
				kind, n, err := ParseHeader(tunnel)
				if err != nil || kind != Disconnect {
					t.Fatalf("frame %q: %v, %v", tunnel, kind, err)
				}
				code, text := ParseDisconnect(tunnel[HeaderLen : HeaderLen+n])
				if !code.Ends() || text != "Aborted by caller" {
					t.Errorf("disconnect %#x %q", code, text)
				}
				tunnel = tunnel[HeaderLen+n:]
			}
		})
	}
	if connects < 15 {
		t.Errorf("only %d CONNECTs", connects)
	}
}

// checkCaptured checks what is true of every captured request.
func checkCaptured(t *testing.T, r *Request) {
	t.Helper()
	if r.Minor != 1 || r.Header.Get("host") != "127.0.0.1:24444" {
		t.Errorf("%v: HTTP/1.%d, host %q", r, r.Minor, r.Header.Get("host"))
	}
	if r.IsTunnel() {
		c, err := ParseConnect(r)
		if err == ErrSID && r.Header.Get("Cookie") == "webvpn=bogus" {
			return
		}
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		if c.Hostname != "laptop" || !c.IPv4 || c.LinkMTU == 0 || c.MTU == 0 {
			t.Errorf("%+v", c)
		}
		return
	}
	m, err := ParseAuth(r.Body)
	if err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	if m.XML != (r.Header.Get("X-Aggregate-Auth") == "1") {
		t.Errorf("%v: XML %v", r, m.XML)
	}
	if m.XML && (m.Version == "" || m.Device.ID == "") {
		t.Errorf("%+v", m)
	}
	if m.Version == "v9.01-3" && len(m.Capabilities) != 2 {
		t.Errorf("capabilities %q", m.Capabilities)
	}
	if m.Kind == AuthReply && m.Username() != "alice" && m.Password() == nil {
		t.Errorf("%v: %v", r, m.Inputs)
	}
}

// What a whole login says, step by step.
func TestTranscriptLogin(t *testing.T) {
	type step struct {
		kind            AuthKind
		group, username string
		password        string
	}
	tests := map[string][]step{
		"openconnect-9.01/xml": {
			{kind: AuthInit},
			{kind: AuthReply, username: "alice"},
			{kind: AuthReply, password: "secret-pw"},
		},
		"openconnect-9.01/legacy": {
			{kind: AuthInit},
			{kind: AuthReply, username: "alice"},
			{kind: AuthReply, password: "secret-pw"},
		},
		"openconnect-9.01/xml-group": {
			{kind: AuthInit},
			{kind: AuthInit, group: "eng"}, // openconnect begins anew with the group
			{kind: AuthReply, group: "eng", username: "alice"},
			{kind: AuthReply, password: "secret-pw"},
		},
		"openconnect-9.01/legacy-group": {
			{kind: AuthInit},
			{kind: AuthReply, group: "eng", username: "alice"},
			{kind: AuthReply, password: "secret-pw"},
		},
		"composed/anyconnect-ios": {
			{kind: AuthInit, group: "VPN"},
			{kind: AuthReply, group: "VPN", username: "alice", password: "secret-pw"},
			{kind: AuthLogout},
		},
		"composed/sslcon": {
			{kind: AuthInit},
			{kind: AuthReply, group: "Engineering", username: "alice", password: "secret&<pw>"},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			i := 0
			for _, c := range transcript(t, name) {
				for _, r := range c.requests(t) {
					if r.IsTunnel() {
						continue
					}
					m, err := ParseAuth(r.Body)
					if err != nil {
						t.Fatal(err)
					}
					if i == len(steps) {
						t.Fatalf("more than %d steps", i)
					}
					got := step{m.Kind, m.GroupSelect, m.Username(), string(m.Password())}
					if got != steps[i] {
						t.Errorf("step %d: %+v, want %+v", i, got, steps[i])
					}
					i++
				}
			}
			if i != len(steps) {
				t.Errorf("%d steps of %d", i, len(steps))
			}
		})
	}
}
