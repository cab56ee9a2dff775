package lab

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Passage is a port of haproxy that leads to the server, TLS untouched.
type Passage struct {
	Port   int
	Source string // the address haproxy comes from
	Option string // of haproxy's server line: "", "send-proxy", "send-proxy-v2"
}

// StartHaproxy starts a haproxy in a namespace.
func (l *Lab) StartHaproxy(ns Netns, passages ...Passage) (*Process, error) {
	var b strings.Builder
	b.WriteString("defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n")
	for _, p := range passages {
		fmt.Fprintf(&b, "listen p%d\n bind :::%d v4v6\n server vpn %s source %s %s\n", p.Port, p.Port, ServerAt(Srv4), p.Source, p.Option)
	}
	conf := l.Path("haproxy.cfg")
	if err := os.WriteFile(conf, []byte(b.String()), 0o644); err != nil {
		return nil, err
	}
	p, err := ns.Start("haproxy", nil, nil, "haproxy", "-db", "-f", conf)
	if err != nil {
		return nil, err
	}
	last := fmt.Sprintf(":%d ", passages[len(passages)-1].Port)
	for deadline := time.Now().Add(10 * time.Second); p.Running() && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if out, err := ns.Run("ss", "-Hltn"); err == nil && strings.Contains(out, last) {
			return p, nil
		}
	}
	return p, fmt.Errorf("haproxy does not listen on %s:\n%s", last, p.Story())
}
