package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// RADIUS is a FreeRADIUS on the loopback of a namespace.
type RADIUS struct {
	*Process
	Dir    string
	Secret string
	Detail string // the file of accounts
}

// Ports of the RADIUS server.
const (
	RADIUSPort     = 11812
	AccountingPort = 11813
)

// radiusConf is FreeRADIUS's configuration. Users are those of the file "users"; who
// has a Tmp-String-0 there is challenged for it after the password, and who is called
// slow waits. Debian 12's release makes a Message-Authenticator only where it is told to.
const radiusConf = `
prefix = /usr
libdir = /usr/lib/freeradius
logdir = DIR
raddbdir = DIR
confdir = DIR
run_dir = DIR
db_dir = DIR
pidfile = DIR/pid
max_request_time = 30
cleanup_delay = 1
log { destination = stdout }
security { reject_delay = 0 }
thread pool {
	start_servers = 4
	max_servers = 8
	min_spare_servers = 1
	max_spare_servers = 4
	max_requests_per_server = 0
}
client lab {
	ipaddr = 127.0.0.1
	secret = SECRET
	require_message_authenticator = yes
}
modules {
	pap { }
	expiration { }
	exec { wait = yes }
	always handled { rcode = handled }
	files { filename = DIR/users }
	detail { filename = DIR/detail }
}
server lab {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = AUTH
	}
	listen {
		type = acct
		ipaddr = 127.0.0.1
		port = ACCT
	}
	authorize {
		update reply { &Message-Authenticator := 0x00 }
		if (&User-Name == "slow") {
			update request { &Tmp-String-1 := "%{exec:/bin/sleep 3}" }
		}
		files
		expiration
		if (&control:Tmp-String-0 && !&State) {
			update control { &Auth-Type := Step1 }
		}
		elsif (&control:Tmp-String-0) {
			update control { &Cleartext-Password := &control:Tmp-String-0 }
			pap
		}
		else {
			pap
		}
	}
	authenticate {
		Auth-Type PAP {
			pap
		}
		Auth-Type Step1 {
			pap
			if (ok) {
				update reply {
					&Reply-Message := "Please enter the code of the day"
					&State := 0x6f6e65
				}
				update control { &Response-Packet-Type := Access-Challenge }
				handled
			}
		}
	}
	accounting {
		detail
	}
}
`

// StartRADIUS starts a FreeRADIUS in a namespace with a file of users in its own
// format.
func (l *Lab) StartRADIUS(ns Netns, users string) (*RADIUS, error) {
	dir, err := os.MkdirTemp(l.Dir, "radius-")
	if err != nil {
		return nil, err
	}
	r := &RADIUS{Dir: dir, Secret: "between radius and vpn", Detail: filepath.Join(dir, "detail")}
	conf := strings.NewReplacer("DIR", dir, "SECRET", `"`+r.Secret+`"`, "AUTH", fmt.Sprint(RADIUSPort), "ACCT", fmt.Sprint(AccountingPort)).Replace(radiusConf)
	for name, text := range map[string]string{"radiusd.conf": conf, "users": users, "dictionary": "$INCLUDE /usr/share/freeradius/dictionary\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			return nil, err
		}
	}
	return r, r.Start(ns)
}

// Start starts it, again if it was ended.
func (r *RADIUS) Start(ns Netns) (err error) {
	if r.Process, err = ns.Start("freeradius", nil, nil, "freeradius", "-f", "-l", "stdout", "-xx", "-d", r.Dir); err != nil {
		return err
	}
	_, err = r.Expect(`Ready to process requests`, 20*time.Second)
	return err
}

// Accounts are the accounts so far, a block each, without their times.
func (r *RADIUS) Accounts() ([]string, error) {
	b, err := os.ReadFile(r.Detail)
	if os.IsNotExist(err) {
		return nil, nil
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n\n"), err
}
