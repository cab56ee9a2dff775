package oath

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const rfcSecret = "3132333435363738393031323334353637383930" // of the RFCs' test vectors

// RFC 4226, appendix D.
func TestHOTPVectors(t *testing.T) {
	want := []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"}
	for i, w := range want {
		if got := code([]byte("12345678901234567890"), uint64(i), 6); got != w {
			t.Errorf("counter %d: %s, want %s", i, got, w)
		}
	}
}

// RFC 6238, appendix B, SHA-1.
func TestTOTPVectors(t *testing.T) {
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := code([]byte("12345678901234567890"), step(time.Unix(at, 0), 30*time.Second), 8); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}

func parse(t testing.TB, text string) *File {
	t.Helper()
	f, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A code by counter is good once, and so are all before it.
func TestCounter(t *testing.T) {
	now := time.Unix(1111111111, 0)
	f := parse(t, "# tokens\nHOTP anna - "+rfcSecret+"\r\nHOTP bert - 00\n")
	for _, tt := range []struct {
		user, code string
		good       bool
	}{
		{"anna", "75522", false}, {"anna", "", false}, {"anna", "000000", false}, {"nobody", "755224", false}, {"bert", "755224", false},
		{"anna", "359152", true}, // the third: two were pressed for nothing
		{"anna", "359152", false}, {"anna", "287082", false},
		{"anna", "969429", true},
		{"anna", "755224", false},
	} {
		if got := f.Check(tt.user, tt.code, now); got != tt.good {
			t.Errorf("%s with %s: %t", tt.user, tt.code, got)
		}
	}
	want := "# tokens\nHOTP\tanna\t-\t" + rfcSecret + "\t4\t969429\t" + now.Local().Format(timeFormat) + "\r\nHOTP bert - 00\n"
	if got := string(f.Bytes()); got != want {
		t.Errorf("file is\n%s\nwant\n%s", got, want)
	}
}

func TestCounterWindow(t *testing.T) {
	secret := []byte("12345678901234567890")
	for _, tt := range []struct {
		ahead uint64
		good  bool
	}{{20, true}, {21, false}} {
		f := parse(t, "HOTP anna - "+rfcSecret+" 5\n")
		if got := f.Check("anna", code(secret, 5+tt.ahead, 6), time.Unix(0, 0)); got != tt.good {
			t.Errorf("%d ahead: %t", tt.ahead, got)
		}
	}
}

// A code by time is good once, within two steps, and none before it afterwards;
// also for a server that reads the file anew.
func TestTime(t *testing.T) {
	secret := []byte("12345678901234567890")
	now := time.Unix(1111111111, 0)
	at := func(steps int) string { return code(secret, step(now, 30*time.Second)+uint64(steps), 6) }
	f := parse(t, "HOTP/T30 anna - "+rfcSecret+"\n")
	for _, tt := range []struct {
		code string
		good bool
	}{
		{at(-3), false}, {at(3), false},
		{at(-1), true}, {at(-1), false}, {at(-2), false},
		{at(0), true}, {at(0), false},
		{at(2), true}, {at(1), false}, {at(2), false},
	} {
		if got := f.Check("anna", tt.code, now); got != tt.good {
			t.Errorf("%s: %t", tt.code, got)
		}
		f = parse(t, string(f.Bytes()))
	}
	if !f.Check("anna", code(secret, step(now, 30*time.Second)+10, 6), now.Add(300*time.Second)) {
		t.Error("the code of five minutes later is refused")
	}
}

// The last code is not good again even if its time in the file makes no sense.
func TestLastCodeOfAnotherTimeZone(t *testing.T) {
	secret := []byte("12345678901234567890")
	now := time.Unix(1111111111, 0)
	last := code(secret, step(now, 30*time.Second), 6)
	f := parse(t, fmt.Sprintf("HOTP/T30 anna - %s 0 %s 2001-01-01T00:00:00L\n", rfcSecret, last))
	if f.Check("anna", last, now) {
		t.Error("the last code is good again")
	}
	if !f.Check("anna", code(secret, step(now, 30*time.Second)+1, 6), now) {
		t.Error("the next one is refused")
	}
}

func TestLines(t *testing.T) {
	for _, tt := range []struct{ line, problem string }{
		{"HOTP anna - 00", ""}, {"HOTP/E anna - 00", ""}, {"HOTP/E/8 anna - 00", ""}, {"HOTP/6 anna - 00", ""},
		{"HOTP/T30/7 anna + 00 0 1234567 2009-12-07T23:23:49L", ""}, {"# anything", ""}, {"", ""},
		{"HOTP anna 1234 00", "the PIN of user \"anna\" is not asked for"},
		{"TOTP anna - 00", "type \"TOTP\""}, {"HOTP/T0 anna - 00", "type"}, {"HOTP/E/9 anna - 00", "type"}, {"HOTP/T30/6/7 anna - 00", "type"},
		{"HOTP anna -", "3 fields"}, {"HOTP anna - xyz", "not hexadecimal"}, {"HOTP anna - 00 x", "counter"},
		{"HOTP anna - 00 1 123456 yesterday", "time of the last code"}, {"HOTP a - 00 1 2 3 4", "8 fields"},
	} {
		got := strings.Join(parse(t, tt.line).Problems(), ", ")
		if (tt.problem == "") != (got == "") || !strings.Contains(got, tt.problem) {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.problem)
		}
	}
}

func TestSet(t *testing.T) {
	f := parse(t, "HOTP anna - 00\n#\nHOTP bert - 01")
	for _, bad := range []string{"", "a b", "a\n", "#a"} {
		if f.Set(bad, []byte{1}) == nil {
			t.Errorf("user %q is taken", bad)
		}
	}
	if err := f.Set("anna", []byte{0xab}); err != nil {
		t.Fatal(err)
	}
	if got, want := string(f.Bytes()), "#\nHOTP bert - 01\nHOTP/T30\tanna\t-\tab\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !f.Delete("anna") || f.Delete("anna") {
		t.Error("the user's token does not come and go")
	}
	if _, err := Parse(make([]byte, MaxFile+1)); err == nil {
		t.Error("a file of any size is taken")
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("HOTP/T30 anna - "+rfcSecret+" 0 755224 2009-12-07T23:23:49L\n"), "anna", "755224")
	f.Add([]byte("HOTP/E/8\ta\t+\t00\t18446744073709551615\n"), "a", "12345678")
	f.Add([]byte("HOTP/T3600/7 a - 00 0 1 0000-01-01T00:00:00L"), "a", "1234567")
	f.Fuzz(func(t *testing.T, b []byte, user, given string) {
		file, err := Parse(b)
		if err != nil {
			t.Skip()
		}
		file.Problems()
		now := time.Unix(1111111111, 0)
		first, second := file.Check(user, given, now), file.Check(user, given, now)
		if first && second && strings.Count(string(b), user) < 2 {
			t.Fatal("a code is good twice")
		}
		again, err := Parse(file.Bytes())
		if err != nil || string(again.Bytes()) != string(file.Bytes()) {
			t.Fatal("the file does not come back")
		}
	})
}
