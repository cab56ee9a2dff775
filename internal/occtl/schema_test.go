package occtl

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// kind is what a value is: s a string, n a number, l a list of strings, o an
// object, a a list of objects; with ? it may be missing.
type schema map[string]string

const array = "[]" // as a key: the value is a list of such objects

var userSchema = schema{
	array: "", "ID": "n", "Username": "s", "Groupname": "s", "State": "s", "vhost": "s", "Device": "s", "MTU": "s?", "Remote IP": "s",
	"Location": "s", "Local Device IP": "s", "IPv4": "s?", "P-t-P IPv4": "s?", "IPv6": "s?", "P-t-P IPv6": "s?", "User-Agent": "s?",
	"Limit RX": "s?", "Limit TX": "s?", "RX": "s", "TX": "s", "_RX": "s", "_TX": "s", "Average RX": "s", "Average TX": "s",
	"raw_total_rx": "n", "raw_total_tx": "n", "DPD": "s", "KeepAlive": "s", "Hostname": "s?", "Last connected at": "s",
	"_Last connected at": "s", "Session started at": "s", "_Session started at": "s", "raw_connected_at": "n",
	"raw_session_started_at": "n", "Full session": "s", "Session": "s", "TLS ciphersuite": "s?", "DTLS cipher": "s?",
	"CSTP compression": "s?", "DTLS compression": "s?", "DNS": "l", "NBNS": "l", "Split-DNS-Domains": "l", "Routes": "ls",
	"No-routes": "l", "iRoutes": "l", "Restricted to routes": "s", "Restricted to ports": "l",
}

var sessionSchema = schema{
	array: "", "Session": "s?", "Full session": "s", "Created": "s", "Expires": "s?", "State": "s", "Username": "s", "Groupname": "s",
	"vhost": "s", "User-Agent": "s?", "Remote IP": "s", "Location": "s", "session_is_open": "n", "tls_auth_ok": "n", "in_use": "n",
}

var schemas = map[string]schema{
	"status": {
		"Status": "s", "Server PID": "n", "Sec-mod PID": "n", "Sec-mod instance count": "n", "Up since": "s", "_Up since": "s",
		"raw_up_since": "n", "uptime": "n", "Active sessions": "n", "Total sessions": "n", "Total authentication failures": "n",
		"IPs in ban list": "n", "Last stats reset": "s", "_Last stats reset": "s", "raw_last_stats_reset": "n", "Sessions handled": "n",
		"Timed out sessions": "n", "Timed out (idle) sessions": "n", "Closed due to error sessions": "n", "Authentication failures": "n",
		"Average auth time": "s", "raw_avg_auth_time": "n", "Max auth time": "s", "raw_max_auth_time": "n", "Average session time": "s",
		"raw_avg_session_time": "n", "Max session time": "s", "raw_max_session_time": "n", "Min MTU": "n?", "Max MTU": "n?", "RX": "s",
		"raw_rx": "n", "TX": "s", "raw_tx": "n", "Version": "s", "Configuration generation": "n", "Away sessions": "n", "Workers": "n",
		"raw_total_rx": "n", "raw_total_tx": "n", "Counters": "o", "Gauges": "o",
	},
	"users": userSchema, "user": userSchema, "user-evil": userSchema, "user-none": userSchema, "id": userSchema, "id-none": userSchema,
	"sessions-all": sessionSchema, "sessions-valid": sessionSchema, "cookies-all": sessionSchema, "cookies-valid": sessionSchema, "session": sessionSchema, "session-none": sessionSchema,
	"bans":       {array: "", "IP": "s", "Since": "s", "_Since": "s", "Score": "n"},
	"limits":     {array: "", "Username": "s?", "IP": "s?", "Until": "s", "_Until": "s"},
	"ban-points": {array: "", "IP": "s", "Score": "n"},
	"why":        {"user": "s", "id": "n", "host": "s", "port": "n?", "proto": "s", "addresses": "a"},
	"iroutes":    {array: "", "ID": "n", "Username": "s", "vhost": "s", "Device": "s", "IP": "s", "iRoutes": "l"},
}

// checkSchema wants text to be what a command promises, with no name twice.
func checkSchema(t *testing.T, name, text string) {
	t.Helper()
	s, ok := schemas[name]
	if !ok {
		t.Fatalf("no schema for %s", name)
	}
	if err := noNameTwice(text); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var objects []map[string]any
	if _, list := s[array]; list {
		if err := json.Unmarshal([]byte(text), &objects); err != nil {
			t.Fatal(err)
		}
	} else {
		objects = make([]map[string]any, 1)
		if err := json.Unmarshal([]byte(text), &objects[0]); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range objects {
		for key, kinds := range s {
			v, there := o[key]
			switch {
			case key == array || !there && strings.HasSuffix(kinds, "?"):
			case !there:
				t.Errorf("no %q", key)
			case !strings.Contains(kinds, kindOf(v)):
				t.Errorf("%q is %v, want %s", key, v, kinds)
			}
		}
		for key := range o {
			if _, known := s[key]; !known {
				t.Errorf("%q is not in the schema", key)
			}
		}
	}
}

func kindOf(v any) string {
	switch v := v.(type) {
	case string:
		return "s"
	case float64:
		return "n"
	case map[string]any:
		return "o"
	case []any:
		kind := ""
		for _, e := range v {
			if k := kindOf(e); kind == "" || kind == k {
				kind = k
			} else {
				return "list of several kinds"
			}
		}
		return map[string]string{"": "l", "s": "l", "o": "a"}[kind]
	}
	return "nothing of these"
}

// noNameTwice reads the value token by token.
func noNameTwice(text string) error {
	d := json.NewDecoder(strings.NewReader(text))
	var value func() error
	value = func() error {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		delim, ok := tok.(json.Delim)
		if !ok {
			return nil
		}
		seen := map[string]bool{}
		for d.More() {
			if delim == '{' {
				key, err := d.Token()
				if err != nil {
					return err
				}
				if seen[key.(string)] {
					return fmt.Errorf("%q twice", key)
				}
				seen[key.(string)] = true
			}
			if err := value(); err != nil {
				return err
			}
		}
		_, err = d.Token()
		return err
	}
	if err := value(); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one value: %v", err)
	}
	return nil
}

func TestNoNameTwiceSeesIt(t *testing.T) {
	for text, good := range map[string]bool{`{"a":1,"b":{"a":2}}`: true, `{"a":1,"a":2}`: false, `[{"a":[]},{"a":1}]`: true, `{} {}`: false, `{`: false} {
		if err := noNameTwice(text); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}
