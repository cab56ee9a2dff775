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
}

// RADIUSPort is the RADIUS server's, AccountPort the same for accounting.
const (
	RADIUSPort  = 11812
	AccountPort = 11813
)

// radiusConf is FreeRADIUS's configuration. Users are those of the file "users"; who
// has a Tmp-String-0 there is challenged for it after the password, and who is called
// slow waits (radiusSlow). Debian 12's release makes a Message-Authenticator only where it is told to.
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
	detail {
		filename = DIR/detail
		permissions = 0644
	}
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
	accounting {
		detail
	}
	authorize {
		update reply { &Message-Authenticator := 0x00 }
		if (&User-Name == "slow") {
			update request { &Tmp-String-1 := "%{exec:/bin/sh DIR/slow}" }
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
}
`

// radiusSlow is what a request of slow waits for: until he is not held any more, or
// a while.
const radiusSlow = `
if [ ! -e DIR/hold ]; then exec sleep 3; fi
: > DIR/held
while [ -e DIR/hold ]; do sleep 0.1; done
`

// StartRADIUS starts a FreeRADIUS in a namespace with a file of users in its own
// format.
func (l *Lab) StartRADIUS(ns Netns, users string) (*RADIUS, error) {
	dir, err := os.MkdirTemp(l.Dir, "radius-")
	if err != nil {
		return nil, err
	}
	r := &RADIUS{Dir: dir, Secret: "between radius and vpn"}
	said := strings.NewReplacer("DIR", dir, "SECRET", `"`+r.Secret+`"`, "AUTH", fmt.Sprint(RADIUSPort), "ACCT", fmt.Sprint(AccountPort))
	for name, text := range map[string]string{"radiusd.conf": said.Replace(radiusConf), "slow": said.Replace(radiusSlow), "users": users, "dictionary": "$INCLUDE /usr/share/freeradius/dictionary\n"} {
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

// Accounts are the requests that it has taken: what stands in its detail file.
func (r *RADIUS) Accounts() []map[string]string {
	b, _ := os.ReadFile(filepath.Join(r.Dir, "detail")) // there is none before the first
	var list []map[string]string
	for _, text := range strings.Split(string(b), "\n\n") {
		one := map[string]string{}
		for _, line := range strings.Split(text, "\n") {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
				one[name] = strings.Trim(value, `"`)
			}
		}
		if len(one) > 0 {
			list = append(list, one)
		}
	}
	return list
}

// Hold has requests of slow wait for Release.
func (r *RADIUS) Hold() error { return os.WriteFile(filepath.Join(r.Dir, "hold"), nil, 0o640) }

// Held reports whether one waits, or has.
func (r *RADIUS) Held() bool {
	_, err := os.Stat(filepath.Join(r.Dir, "held"))
	return err == nil
}

// Release lets it go on.
func (r *RADIUS) Release() error { return os.Remove(filepath.Join(r.Dir, "hold")) }
