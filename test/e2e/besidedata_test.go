//go:build e2e

package e2e

import "regexp"

// besideSettings are those both servers are given beside the lab's own.
var besideSettings = []string{
	"use-occtl = true",
	"banner = Welcome aboard",
	"pre-login-banner = No trespassing",
	"route = 10.0.0.0/8",
	"no-route = 10.9.0.0/255.255.0.0",
	"split-dns = corp.example",
	"default-domain = corp.example",
	"custom-header = X-Custom: for %{U}",
	"included-http-headers = Strict-Transport-Security: max-age=31536000 ; includeSubDomains",
	"included-http-headers = X-Frame-Options: deny",
	"idle-timeout = 1200",
	"mobile-idle-timeout = 1800",
	"ipv6-subnet-prefix = 128",
	"rate-limit-ms = 0",
	"dpd = 90",
	"mobile-dpd = 1800",
	"switch-to-tcp-timeout = 25",
	"select-group = staff[The staff]",
	"select-group = guests",
	"select-group = board",
	"dtls-legacy = true",
	"compression = true",
	"no-compress-limit = 128",
	"rx-data-per-sec = 40000000",
	"tx-data-per-sec = 40000000",
	"net-priority = 3",
	"output-buffer = 100",
}

// besideGroup is how clients of openconnect choose one.
var besideGroup = []string{"--authgroup", "The staff"}

const besideProfile = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<AnyConnectProfile/>\n"

const besideInit = `<?xml version="1.0" encoding="UTF-8"?>` +
	`<config-auth client="vpn" type="init" aggregate-auth-version="2"><version who="vpn">v9</version>` +
	`<device-id>linux-64</device-id><group-access>https://vpn.example/</group-access></config-auth>`

// agents are clients whose class counts.
const (
	agentOpenConnect = "Open AnyConnect VPN Agent v9.01"
	agentOld         = "Open AnyConnect VPN Agent v3.20"
	agentCisco       = "AnyConnect Windows 4.10.07061"
	agentIOS         = "Cisco AnyConnect VPN Agent for Apple iPhone 5.0"
)

// besideActions are what is done to both, in this order.
func besideActions() (list []action) {
	get := func(name string, args ...string) {
		list = append(list, action{name: "GET " + name, curl: append(args, name)})
	}
	for _, path := range []string{
		"/VPNManifest.xml", "/1/VPNManifest.xml", "/+CSCOT+/translation-table?textdomain=AnyConnect&type=manifest",
		"/+CSCOT+/oem-customization?app=AnyConnect&type=oem&platform=win", "/1/binaries/update.txt", "/1/binaries/vpndownloader.sh",
		"/1/index.html", "/1/Linux", "/1/Linux_64", "/1/Windows", "/1/Windows_ARM64", "/1/Darwin_i386", "/logout",
		"/1/index.html/below", "/1/index.htmlx", "/nothing", "/profiles", "/profiles/profile.xml",
		"/+webvpn+/index.html", "/+CSCOE+/logon.html", "/svc", "/cert.pem", "/ca.pem", "/cert.cer", "/ca.cer", "/staff", "/../etc/passwd",
	} {
		get(path, "-A", agentCisco)
	}
	for name, agent := range map[string]string{"openconnect": agentOpenConnect, "v3": agentOld, "cisco": agentCisco, "ios": agentIOS, "curl": "curl/8"} {
		list = append(list, action{name: "GET / by " + name, curl: []string{"-A", agent, "/"}},
			action{name: "POST init by " + name, curl: []string{"-A", agent, "-H", "X-Aggregate-Auth: 1", "--data-binary", besideInit, "/"}})
	}
	return append(list, []action{
		{name: "GET /auth", curl: []string{"-A", agentOpenConnect, "/auth"}},
		{name: "GET /VPN", curl: []string{"-A", agentOpenConnect, "/VPN"}},
		{name: "GET / HTTP/1.0", curl: []string{"-A", agentOpenConnect, "-0", "/"}},
		{name: "GET / closing", curl: []string{"-A", agentOpenConnect, "-H", "Connection: close", "/"}},
		{name: "HEAD /", curl: []string{"-I", "/"}},
		{name: "PUT /", curl: []string{"-X", "PUT", "/"}},
		{name: "OPTIONS /", curl: []string{"-X", "OPTIONS", "/"}},
		{name: "POST /nothing", curl: []string{"-d", "a=b", "/nothing"}},
		{name: "GET profile with a cookie", login: true, curl: []string{"-A", agentCisco, "/profiles/profile.xml"}},
		{name: "POST form username", curl: []string{"-A", agentOpenConnect, "-d", "username=alice", "/auth"}},
		{name: "POST form stray password", curl: []string{"-A", agentOpenConnect, "-d", "password=x", "/auth"}},
		{name: "POST form unknown group", curl: []string{"-A", agentOpenConnect, "-d", "username=alice&password=correct+horse&group_list=nobody", "/auth"}},
		{name: "POST form not a member", curl: []string{"-A", agentOpenConnect, "-d", "username=alice&password=correct+horse&group_list=board", "/auth"}},
		{name: "POST bad XML", curl: []string{"-A", agentOpenConnect, "--data-binary", "<config-auth", "/"}},
		{name: "POST empty", curl: []string{"-A", agentOpenConnect, "-d", "", "/"}},
		{name: "POST logout", curl: []string{"-A", agentCisco, "--data-binary",
			`<config-auth client="vpn" type="logout"><session-token>x</session-token></config-auth>`, "/"}},
		{name: "login", auth: []string{}},
		{name: "login by cisco", auth: []string{"--useragent", agentCisco}},
		{name: "login by iOS", auth: []string{"--useragent", agentIOS}},
		{name: "login by v3", auth: []string{"--useragent", agentOld, "--no-xmlpost"}},
		{name: "login without XML", auth: []string{"--no-xmlpost"}},
		{name: "login refused", auth: []string{}, fails: true},
		{name: "CONNECT without a cookie", raw: `CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: x\r\n\r\n`},
		{name: "CONNECT with a wrong cookie", raw: `CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: x\r\nCookie: webvpn=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n\r\n`},
		{name: "CONNECT with a good cookie", raw: `CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: x\r\nUser-Agent: ` + agentOpenConnect +
			`\r\nCookie: webvpn=SID\r\nX-CSTP-Base-MTU: 1500\r\n\r\n`, then: `STF\001\000\001\005\000\260`}, // the client says goodbye
		{name: "CONNECT elsewhere", raw: `CONNECT www.example:443 HTTP/1.1\r\nHost: x\r\n\r\n`},
		{name: "not HTTP", raw: `\001\002\003\004\005\r\n\r\n`},
		{name: "pipelined", raw: `GET /1/Linux HTTP/1.1\r\nHost: x\r\n\r\nGET /1/Windows HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n`},
		{name: "tunnel", vpn: []string{"--no-dtls"}},
		{name: "tunnel with DTLS", vpn: []string{}},
		{name: "tunnel by iOS", vpn: []string{"--no-dtls", "--useragent", agentIOS}},
		{name: "tunnel of an old client", vpn: []string{"--no-dtls", "--useragent", agentOld, "--disable-ipv6"}},
		{name: "occtl show users", occtl: []string{"show", "users"}},
		{name: "occtl show user nobody", occtl: []string{"show", "user", "nobody"}},
		{name: "occtl show id 9", occtl: []string{"show", "id", "9"}},
		{name: "occtl show ip bans", occtl: []string{"show", "ip", "bans"}},
		{name: "occtl -j show ip bans", occtl: []string{"-j", "show", "ip", "bans"}},
		{name: "occtl disconnect user nobody", occtl: []string{"disconnect", "user", "nobody"}},
		{name: "occtl disconnect id 9", occtl: []string{"disconnect", "id", "9"}},
		{name: "occtl unban ip 192.0.2.9", occtl: []string{"unban", "ip", "192.0.2.9"}},
		{name: "occtl nonsense", occtl: []string{"nonsense"}},
		{name: "occtl reload", occtl: []string{"reload"}},
	}...)
}

// difference explains lines that one server says and the other does not: "- "
// are ocserv's, "+ " rocserv's. What is in why stands in doc/differences.md.
type difference struct {
	at, line *regexp.Regexp // action, line
	why      string
}

func differs(at, line, why string) difference {
	return difference{regexp.MustCompile(at), regexp.MustCompile(line), why}
}

// besideOlder is where Debian's ocserv, 1.1.6, is older than the one whose ways
// are followed, 1.4.2 and later.
var besideOlder = []difference{
	differs(`/VPNManifest.xml|/\+CSCOT\+/`, `.`,
		"`/VPNManifest.xml`, `/+CSCOT+/translation-table` and `/+CSCOT+/oem-customization` are answered."),
	differs(`/(cert|ca)\.(pem|cer)`, `.`, "`/cert.pem`, `/cert.cer`, `/ca.pem` and `/ca.cer` are not there any more."),
	differs(`GET /|POST|login`, `Content-Type: text/(xml|plain)`, "Forms are `text/xml; charset=utf-8`, and a constant text says what it is."),
	differs(`login|/$|/auth|/VPN|POST|by |closing|1.0`, `<message>|type="password"|Please enter your|label="G(roup|ROUP):"|^- (</?(config-auth|auth|form|version|input|select|option)|<\?xml)`,
		"Name and password are asked in one form, and its list of groups is called `GROUP:`."),
	differs(`pipelined`, `.`, "Bytes after a request that has no answer yet end the connection."),
	differs(`^(HEAD|PUT|OPTIONS)`, `HTTP/1.1|404 Not Found`, "A method other than GET and POST is 405."),
	differs(`^CONNECT (without|with a wrong|elsewhere)|^tunnel`, `Transcend|HTTP/1.1 (503|401|404)|Session-Timeout|404 Not Found`,
		"CONNECT with a wrong cookie is 401, so that the client logs in anew; its reply has no `X-Transcend-Version`, and says `none` where no timeout is set."),
	differs(`good cookie`, `Session-Timeout`, "says `none` where no timeout is set."),
	differs(`login|^POST`, `selected="true"`, "The option of a group that has been chosen says that it is selected."),
}

// besideOurs is where rocserv does otherwise on purpose.
var besideOurs = []difference{
	differs(`login|/|POST`, `aggregate-auth-version|session-(id|token)|server-cert-hash`,
		"Documents have `aggregate-auth-version`, the last one the session's token and the certificate's hash: what AnyConnect expects of a server of its maker."),
	differs(`.`, `Connection: |Content-Length: |Content-length: |Content-Type: text/html`,
		"Every reply has `Content-Length` and `Connection`, and one with a body its type."),
	differs(`nothing|htmlx|logon|svc|staff|passwd|ca\.|profile|webvpn|HEAD|PUT|OPTIONS|CONNECT (without|with a wrong|elsewhere)|XML`, `Strict-Transport|X-Frame`,
		"`included-http-headers` are in every reply of HTTP, those of errors too."),
	differs(`webvpn`, `.`, "`/+webvpn+/index.html` logs in, as with servers of Cisco."),
	differs(`1\.0$`, `HTTP/1\.[01] 200`, "A reply has the version of the server, HTTP/1.1, whatever the request's (RFC 9110 section 2.5)."),
	differs(`bad XML`, `.`, "A document that is no XML is 400, and no new login."),
	differs(`logout`, `webvpn=;|type="(complete|auth-request)"`, "A logout is answered with the cookies cleared, not with a new form."),
	differs(`GET /profiles`, `.`, "Without a cookie a profile is not found; ocserv ends the connection without a reply."),
	differs(`^login`, `vpn-profile-manifest`, "The URL of a profile has the name of the file, not its whole path."),
	differs(`form (unknown group|not a member)`, `Login failed`, "A group that a user may not choose counts as a wrong password."),
	differs(`^tunnel`, `^- X-Frame-Options`, "Name and password are asked in one form, and its list of groups is called `GROUP:`."),
	differs(`^tunnel|good cookie`, `Server-Name|(Address|Address-IP6|Rekey-Time|-MTU|Netmask): |DTLS-Rekey-Method`,
		"Addresses, server name and MTU are each server's own; the MTU leaves room for UDP always; the time of a new key is exact, and the method is told for DTLS too."),
}
