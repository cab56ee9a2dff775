package wire

import "strings"

// Static is a reply that never changes.
type Static struct {
	ContentType string
	Body        string
}

// Response gives the reply.
func (s Static) Response() *Response {
	return &Response{Status: 200, Body: []byte(s.Body), Header: Header{
		{"Content-Type", s.ContentType},
		{"X-Transcend-Version", "1"},
	}}
}

var (
	emptyManifest = Static{"text/xml", xmlDecl + `<vpn rev="1.0">` + "\n</vpn>\n"}
	emptyPage     = Static{"text/html", "<html></html>\n"}
	noUpdate      = Static{"text/plain", "0,0,0000\n"}
	noDownload    = Static{"application/x-shellscript", "#!/bin/sh\n\nexit 0\n"}
)

// statics is what AnyConnect asks for after the login: a server that answers
// nothing makes it wait (ocserv worker-http.c). Constants only; no path is ever
// looked up as a file (CVE-2018-0296, CVE-2020-3452).
var statics = [...]struct {
	path  string
	reply Static
}{
	{"/VPNManifest.xml", emptyManifest},
	{"/1/VPNManifest.xml", emptyManifest},
	{"/+CSCOT+/translation-table", emptyManifest},
	{"/+CSCOT+/oem-customization", emptyManifest},
	{"/1/binaries/update.txt", noUpdate},
	{"/1/binaries/vpndownloader.sh", noDownload},
	{"/1/index.html", emptyPage},
	{"/1/Linux", emptyPage},
	{"/1/Linux_64", emptyPage},
	{"/1/Windows", emptyPage},
	{"/1/Windows_ARM64", emptyPage},
	{"/1/Darwin_i386", emptyPage},
	{"/logout", emptyPage},
}

// FindStatic finds the constant reply to a GET of path (Request.Path).
func FindStatic(path string) (Static, bool) {
	for _, s := range statics {
		if PathIs(path, s.path) {
			return s.reply, true
		}
	}
	return Static{}, false
}

// PathIs says whether path is the known path, or one below it (ocserv's rule).
func PathIs(path, known string) bool {
	rest, ok := strings.CutPrefix(path, known)
	return ok && (rest == "" || known != "/" && rest[0] == '/')
}
