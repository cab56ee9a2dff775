// Package helper is the process that plays a login method which must not be
// played in sec-mod: one that talks to servers, reads what strangers encode, or
// needs a library in C.
//
// # Theory of operation
//
// Main starts one helper per method that a configuration names, when sec-mod
// asks for it, and gives sec-mod the other end of its channel (descriptor 3).
// The binary is the same; cmd has the table of methods (Table), each a folder
// below this one.
//
//	sec-mod  HELPER_CONFIG            the lines of the configuration that name the method
//	helper   opens what they name, gives up all files and programs (sandbox.Helper)
//	helper   HELPER_READY             or why not, and ends
//	sec-mod  HELPER_BEGIN   login n   a Method begins a Dialogue
//	helper   HELPER_VERDICT           ask, admit, refused, unavailable
//	sec-mod  HELPER_ANSWER  login n   the Dialogue goes on
//	helper   HELPER_VERDICT
//	sec-mod  HELPER_BROWSE  login n   the user's browser is back: Browsing.Browse
//	helper   HELPER_BROWSED           where it goes next
//	sec-mod  HELPER_CANCEL  login n   nobody answers any more: Dialogue.End
//	sec-mod  HELPER_ACCOUNT           an Account is told what became of a session
//	helper   HELPER_ACCOUNTED         it is accounted, or why not
//	sec-mod  HELPER_RELAY             what a client sends to a server
//	helper   HELPER_RELAYED           its answer
//	sec-mod  HELPER_RELAY             what a client sends to a server
//	helper   HELPER_RELAYED           its answer
//	helper   HELPER_DISCONNECT        a server wants accounted sessions ended
//	sec-mod  HELPER_DISCONNECTED      how many there were
//
// Requests carry ids, which their answers repeat; any number is under way. A
// helper begins nothing by itself but HELPER_DISCONNECT. A reload is another helper: the one
// before serves its logins to their end, and gets no new ones. When its channel
// ends, so does the process. secmod/remote.go is the other side, which bounds how
// many requests are under way, and starts another helper when one dies.
//
// # A new method
//
//   - internal/config/auth.go: its row, with remote and what is ready
//   - a folder here with a type that is a Method, and the functions Make and Check
//   - cmd/rocserv/helpers.go: its name, Make and Check
//   - internal/doctor/methods.go: what it needs of a host
//
// Make opens every file there is to open: afterwards only the folders it returns
// can be read. What is given to a Method is whatever a client typed; what comes
// from its server is the word of the operator's server, if that can be told.
//
// # Goroutines
//
// One reads the channel. Each request has one of its own, so Begin and Answer may
// take as long as they like: nobody but that login waits. Answers of one login
// are given one at a time; what a browser brings may come beside them. The context ends when nobody waits for the verdict.
//
// # Security
//
// A helper sees names and passwords of its method's users, and its method's own
// secret (a shared secret, a bind password, a keytab); no TLS key, session or other
// file of the server's. That of gssapi reads tickets, which any client encodes as it
// likes. What a helper says is believed for its method's logins only. A panic costs
// the login it happens in. Answers are cleared after use, but for what a library takes
// as a string (a bind's password).
package helper
