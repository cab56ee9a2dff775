package getopt

import (
	"slices"
	"strings"
	"testing"
)

var flags = []Flag{
	{'c', "config", true, false}, {'d', "debug", true, false}, {'f', "foreground", false, false}, {'t', "test-config", false, false},
	{0, "no-chdir", false, false}, {0, "log-stderr", false, false}, {'l', "lock", false, false}, {'g', "groupname", true, false},
	{'v', "version", false, true},
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want, wrong string }{
		{"", "--", ""},
		{"-f -c FILE", "--foreground --config=FILE --", ""},
		{"-tfcFILE", "--test-config --foreground --config=FILE --", ""},
		{"-d3 -d 4 --debug 5 --debug=6", "--debug=3 --debug=4 --debug=5 --debug=6 --", ""},
		{"--deb 3 --no", "--debug=3 --no-chdir --", ""},
		{"USER -l -c f", "--lock --config=f -- USER", ""},
		{"-l -- -x -c", "--lock -- -x -c", ""},
		{"- -l", "--lock -- -", ""},
		{"-c -l", "--config=-l --", ""},
		{"--config= x", "--config= -- x", ""},
		{"--config=a=b", "--config=a=b --", ""},
		{"-z -f", "--foreground --", "p: invalid option -- 'z'"},
		{"-fzt", "--foreground --test-config --", "p: invalid option -- 'z'"},
		{"--what=1", "--", "p: unrecognized option '--what'"},
		{"-c", "--", "p: option requires an argument -- 'c'"},
		{"--config", "--", "p: option '--config' requires an argument"},
		{"--lock=1", "--", "p: option '--lock' doesn't allow an argument"},
		{"--lo", "--", "p: option '--lo' is ambiguous; possibilities: '--log-stderr' '--lock'"},
		{"--log", "--log-stderr --", ""},
		{"-fvt -z x", "--foreground --version --", ""},
		{"-z --vers -y", "--version --", "p: invalid option -- 'z'"},
	} {
		l := Parse("p", flags, strings.Fields(tt.in))
		if got := strings.Join(l.Canonical(), " "); got != tt.want || strings.Join(l.Wrong, "; ") != tt.wrong {
			t.Errorf("%s: %q, %q; want %q, %q", tt.in, got, l.Wrong, tt.want, tt.wrong)
		}
	}
	if l := Parse("p", flags, []string{"-l", "-dl", "--lock"}); l.Count("lock") != 2 || l.Count("debug") != 1 {
		t.Errorf("counted %d and %d", l.Count("lock"), l.Count("debug"))
	}
}

// Whatever is given, nothing is lost: each argument is an option, a value, an
// argument, or complained of. Read once more, the canonical form is itself.
func FuzzParse(f *testing.F) {
	f.Add("-f\n-cFILE\n--debug=3\n--\n-x")
	f.Add("--\n--")
	f.Add("-\n-zzz\n--lo\n--=\n-c")
	f.Fuzz(func(t *testing.T, s string) {
		l := Parse("p", flags, strings.Split(s, "\n"))
		again := Parse("p", flags, l.Canonical())
		if len(again.Wrong) > 0 || !slices.Equal(again.Canonical(), l.Canonical()) {
			t.Errorf("%q\nthen %q, %q", l.Canonical(), again.Canonical(), again.Wrong)
		}
	})
}
