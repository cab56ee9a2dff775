package ipc

// Paths that a browser visits for a single sign-on: workers serve them, the login
// helper names them in URLs.
const (
	SSOPath         = "/sso/"
	SSOLoginPath    = SSOPath + "login/" // and the ticket
	SSOCallbackPath = SSOPath + "callback"
	SSODonePath     = SSOPath + "done"
)

// SSOCookie is what a browser is given at the first of them and brings to the second.
const SSOCookie = "rocserv-sso"

// BrowseTicketLen is how many characters name a login in URLs: lower-case hexadecimal.
const BrowseTicketLen = 32

// IsBrowseTicket reports whether a text can be a ticket.
func IsBrowseTicket(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == BrowseTicketLen
}
