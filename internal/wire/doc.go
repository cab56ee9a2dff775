// Package wire is the language a client and its worker speak: the requests and
// replies of the login, the CONNECT and its answer, and the frames of the CSTP
// channel. It turns bytes into values and values into bytes, and does nothing
// else: no sockets, no clocks, no goroutines, no state but a Reader's buffer.
//
// # Theory of operation
//
// A connection goes through these functions in this order:
//
//	Reader.Next          one request, bounded, or an error that ends the connection
//	FindStatic, PathIs   constants AnyConnect asks for; everything else is the worker's
//	ParseAgent           the class of client, which decides about forms and workarounds
//	ParseAuth            the body: XML or a form, into one AuthRequest
//	Form.Document        what the user is asked next, sent with AuthResponse
//	Success.Response     the end of the login: cookie and session token
//	ParseConnect         the CONNECT, into a Connect
//	DTLSOffer.Choose     PSK, legacy or no DTLS
//	MTUInput.MTU         the two sizes the client is told
//	Tunnel.Response      the reply, after which the connection carries frames
//	ParseHeader, PutHeader, ParseDisconnect
//	                     the frames
//
// # Files
//
//	cstp.go       frames and DISCONNECT payloads
//	http.go       Reader; request.go: Request and its syntax
//	response.go   Response, and how a header line is written
//	cookie.go     cookies, the text of a SID
//	auth.go       AuthRequest; authxml.go, authurl.go: its two encodings
//	authform.go   forms, success, logout to the client; static.go: constants
//	agent.go      classes of clients
//	connect.go    CONNECT; dtls.go: suites and modes; mtu.go; tunnel.go: the reply
//	secret.go     bytes that never print themselves
//
// Two packages below are for main, the only parsers of foreign bytes it has:
// dtlshello finds the session a DTLS ClientHello asks for, proxyproto reads a
// PROXY header. Main imports them and not this package.
//
// # Invariants
//
// Whatever comes from a client is bounded before it is looked at: 16 KB of
// header, 256 KB of body, 64 KB of XML, 12 levels, 512 elements, 32 inputs.
// Nothing is repaired where two readers could repair differently: a second
// Content-Length, a folded line, a bare LF, a Transfer-Encoding are errors.
// Where only descriptions of the client are at stake (its platform, its MTU),
// nonsense counts as absence.
//
// Header names are written in the case they are spelled here, since openconnect
// compares them so, and no value can hold a line break: what would make two
// lines of one is ErrField. Texts in documents are always escaped.
//
// # Security
//
// A worker parses here what anyone on the Internet sends it, before any login.
// Passwords are []byte (Secret), go into no string, no error and no log line,
// and are wiped by Clear; the Reader wipes its buffer as it is consumed. Errors
// name a place and never quote. A request prints as method and path only: the
// query may be the camouflage secret. XML has its five entities and no
// document type, so there is nothing to expand (CVE-2018-0101 was in the
// parser this one corresponds to). Paths are compared with constants and never
// become file names (CVE-2018-0296, CVE-2020-3452).
//
// # Standards
//
// draft-mavrogiannopoulos-openconnect-04; RFC 9110, 9112 (HTTP), 6265 (cookies);
// where the draft is silent or older than the clients, openconnect 9.x (auth.c,
// cstp.c) and ocserv 1.x (worker-auth.c, worker-vpn.c) as measured: testdata
// holds what they say to each other. Left out on purpose: chunked bodies,
// Expect: 100-continue, HTTP/2, stateful compression of the tunnel (deflate).
package wire
