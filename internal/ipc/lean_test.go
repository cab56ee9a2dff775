//go:build lean

package ipc

import (
	"errors"
	"testing"
)

// TestLeanStrings: of a channel that is not trusted, strings are looked at wherever they
// are: in a message, a list, a map, and what is inside.
func TestLeanStrings(t *testing.T) {
	const bad = "\xff"
	for _, tt := range []struct {
		name         string
		good, broken Message
		into         Message
	}{
		{"of the message", &WorkerConfig{ServerName: "a"}, &WorkerConfig{ServerName: bad}, new(WorkerConfig)},
		{"of one inside", &WorkerConfig{Vhosts: []*Vhost{{}, {Name: "b"}}}, &WorkerConfig{Vhosts: []*Vhost{{}, {Name: bad}}}, new(WorkerConfig)},
		{"of a list", &Vhost{HttpHeaders: []string{"a", "b"}}, &Vhost{HttpHeaders: []string{"a", bad}}, new(Vhost)},
		{"of a map", &HelperMethod{Options: map[string]string{"a": "b"}}, &HelperMethod{Options: map[string]string{"a": bad}}, new(HelperMethod)},
		{"a map's key", &HelperMethod{Options: map[string]string{"a": "b"}}, &HelperMethod{Options: map[string]string{bad: "b"}}, new(HelperMethod)},
	} {
		for _, trusted := range []bool{false, true} {
			for m, valid := range map[Message]bool{tt.good: true, tt.broken: false} {
				body := make([]byte, m.SizeVT())
				if _, err := m.MarshalToSizedBufferVT(body); err != nil {
					t.Fatal(err)
				}
				rec := Record{Type: WorkerStartupT, Body: body, trusted: trusted}
				err := rec.Decode(tt.into)
				if want := !valid && !trusted; errors.Is(err, ErrViolation) != want {
					t.Errorf("%s, valid %v, trusted %v: %v", tt.name, valid, trusted, err)
				}
			}
		}
	}
	rec := Record{Type: WorkerStartupT, Body: []byte{0xff}}
	if err := rec.Decode(new(WorkerConfig)); !errors.Is(err, ErrViolation) {
		t.Errorf("no message at all: %v", err)
	}
}

// TestLeanNames: values of enumerations are named as protobuf's are.
func TestLeanNames(t *testing.T) {
	if got := KeyKind_KEY_RSA_PSS.String(); got != "KEY_RSA_PSS" {
		t.Errorf("%q", got)
	}
	if got := KeyKind(99).String(); got != "99" {
		t.Errorf("%q", got)
	}
}
