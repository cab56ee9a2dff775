package secmod

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"rocserv/internal/blocklist"
)

// A worker is told the ways that its user may take and no others: not their
// names, not their logins.
func TestWaysOfAUser(t *testing.T) {
	st := newSite(t, "anna:staff:", "berta:*:")
	ca := st.write("ca.pem", "-- pem --")
	st.add("egress = corp socks5://corpuser:corppass@192.0.2.1", "egress = web https://webuser:webpass@192.0.2.2 ca="+ca,
		"egress = token http://192.0.2.3 bearer=tokenword", "egress = out direct source=192.0.2.4",
		"egress-via = corp,token for user:anna 10.0.0.0/8", "egress-via = web for group:staff *.example", "egress-via = out",
		"egress-deny = 10.0.0.5 tcp(25)")
	r := boot(t, st)
	secrets := []string{"corp", "web", "token", "ca.pem", "-- pem --"}
	_, anna := r.tunnelOf("anna", "")
	var names []string
	for _, w := range anna.Egress.Ways {
		names = append(names, w.Name+" "+w.User+" "+w.Password+" "+w.Bearer+" "+string(w.Roots)+" "+w.Fingerprint)
	}
	if want := []string{"corp corpuser corppass   go", "web webuser webpass  -- pem -- go", "token   tokenword  go", "out     go"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if v := anna.Egress.Via; len(v) != 3 || !slices.Equal(v[0].Ways, []string{"corp", "token"}) || len(v[0].Where.Nets) != 1 || v[1].Where.Domains[0] != "*.example" || v[2].Where.Nets != nil {
		t.Errorf("%v", v)
	}
	if e := anna.Egress; len(e.Rules) != 1 || e.Rules[0].Allow || e.Rules[0].Text != "deny 10.0.0.5/32 tcp(25)" || e.Rules[0].Where.Ports[0].Proto != 6 || e.Roots != nil {
		t.Errorf("%v", e)
	}
	_, berta := r.tunnelOf("berta", "")
	b, err := proto.Marshal(berta)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if strings.Contains(string(b), s) {
			t.Errorf("berta's worker is told of %q", s)
		}
	}
	if len(berta.Egress.Ways) != 1 || len(berta.Egress.Via) != 1 {
		t.Errorf("%v", berta.Egress)
	}
}

// A worker is told what the gateway address of its user's tunnel offers.
func TestGatewayOfAUser(t *testing.T) {
	st := newSite(t, "anna:staff:")
	st.add("resolver = 192.0.2.53", "client-dns = intercept", "gateway-forward = tcp:5201 -> 127.0.0.1:5202")
	_, anna := boot(t, st).tunnelOf("anna", "")
	e := anna.Egress
	if got := e.Resolver.Servers; len(got) != 1 || got[0].Host != "192.0.2.53" || got[0].Port != 53 || e.ClientDns != "intercept" || e.Resolver.CacheBytes != 262144 {
		t.Errorf("resolvers %v, client-dns %q", got, e.ClientDns)
	}
	if f := e.Forwards; len(f) != 1 || f[0].Port != 5201 || f[0].Host != "127.0.0.1" || f[0].To != 5202 {
		t.Errorf("forwards %v", f)
	}
}

// Users share the ways between bars evenly, and each has always the same.
func TestShared(t *testing.T) {
	first := map[string]int{}
	for i := range 900 {
		user := strings.Repeat("u", i%30) + string(rune('a'+i/30))
		list := shared("a|b|c", user)
		if !slices.Equal(list, shared("c|a|b", user)) {
			t.Fatalf("%s: the order of the line counts", user)
		}
		first[list[0]]++
	}
	for w, n := range first {
		if n < 200 || n > 400 {
			t.Errorf("%s has %d of 900 users", w, n)
		}
	}
	if len(first) != 3 {
		t.Errorf("%v", first)
	}
}

// What is to be verified by a file that is not there cannot be.
func TestNoCAFile(t *testing.T) {
	st := newSite(t, "anna:*:")
	st.add("egress = web https://192.0.2.2 ca=/nonexistent/ca.pem", "egress-via = web")
	r := newRig(t)
	if rep := r.configure(1, st.text()); !strings.Contains(rep.Error, "egress: open /nonexistent/ca.pem") {
		t.Errorf("%q", rep.Error)
	}
}

// What the resolver of a user needs of files is read for the worker, read again
// when it has changed, and the ways that only the resolver takes are known.
func TestResolverOfAUser(t *testing.T) {
	st := newSite(t, "anna:staff:")
	ca, list := st.write("dns.pem", "-- pem --"), st.write("blocked", "ads.example\nno name\n0.0.0.0 spy.example\n")
	st.add("egress = corp socks5://corpuser:corppass@192.0.2.1", "egress = other socks5://192.0.2.2",
		"resolver = tls://dns.example ca="+ca+" tls-fingerprint=firefox for x.example", "resolver-via = corp", "resolver-block = "+list+", zip",
		"resolver-block-answer = refused", "resolver-guard = true", "resolver-guard-except = y.example")
	r := boot(t, st)
	_, anna := r.tunnelOf("anna", "")
	m := anna.Egress.Resolver
	if s := m.Servers; len(s) != 1 || s[0].Kind != "tls" || s[0].Host != "dns.example" || s[0].Port != 853 || string(s[0].Roots) != "-- pem --" || s[0].Fingerprint != "firefox" || s[0].Zones[0] != "x.example" {
		t.Errorf("%v", s)
	}
	if len(anna.Egress.Ways) != 1 || anna.Egress.Ways[0].Name != "corp" || !slices.Equal(m.Via, []string{"corp"}) || !m.Refuse || !m.Guard || !slices.Equal(m.GuardExcept, []string{"y.example"}) {
		t.Errorf("%v", anna.Egress)
	}
	has := func(names string) string {
		_, anna := r.tunnelOf("anna", "")
		var found []string
		for n := range strings.FieldsSeq(names) {
			if blocklist.Set(anna.Egress.Resolver.Block).Has(n) {
				found = append(found, n)
			}
		}
		return strings.Join(found, " ")
	}
	const all = "ads.example x.spy.example a.zip new.example example"
	if got := has(all); got != "ads.example x.spy.example a.zip" {
		t.Errorf("blocked: %s", got)
	}
	if !strings.Contains(r.log.String(), "lines are left out that are no names") {
		t.Error("nothing is said of a line that is no name")
	}
	st.write("blocked", "new.example\n")
	if got := has(all); got != "a.zip new.example" {
		t.Errorf("blocked after a change of the file: %s", got)
	}
}

// A list that is not there is no list that blocks nothing.
func TestNoBlockFile(t *testing.T) {
	st := newSite(t, "anna:*:")
	st.add("resolver-block = /nonexistent/list")
	r := newRig(t)
	if rep := r.configure(1, st.text()); !strings.Contains(rep.Error, "resolver-block: stat /nonexistent/list") {
		t.Errorf("%q", rep.Error)
	}
}
