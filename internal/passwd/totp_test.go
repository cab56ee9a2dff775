package passwd

import (
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestEnrol: the secret that is printed is the one in the file, others' lines
// stay, and a second time there is a new one.
func TestEnrol(t *testing.T) {
	file := filepath.Join(t.TempDir(), "otp")
	if err := os.WriteFile(file, []byte("# mine\nHOTP bert - 00\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^  secret  ([A-Z2-7]{32})$`)
	var secrets []string
	for range 2 {
		var out bytes.Buffer
		if err := Enrol(file, "anna", "My VPN", &out); err != nil {
			t.Fatal(err)
		}
		m := line.FindStringSubmatch(out.String())
		if m == nil || !strings.Contains(out.String(), "otpauth://totp/My%20VPN:anna?secret="+m[1]+"&issuer=My+VPN") {
			t.Fatalf("printed:\n%s", out.String())
		}
		secret, err := base32.StdEncoding.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, m[1])
		b, err := os.ReadFile(file)
		if want := "# mine\nHOTP bert - 00\nHOTP/T30\tanna\t-\t" + hex.EncodeToString(secret) + "\n"; err != nil || string(b) != want {
			t.Errorf("the file is %q, %v, want %q", b, err, want)
		}
	}
	if secrets[0] == secrets[1] {
		t.Error("the same secret twice")
	}
	var out bytes.Buffer
	if err := Disenrol(file, "anna", &out); err != nil || out.Len() > 0 {
		t.Errorf("%v %s", err, out.String())
	}
	if err := Disenrol(file, "anna", &out); err != nil || !strings.Contains(out.String(), "no token") {
		t.Errorf("%v %s", err, out.String())
	}
	if b, _ := os.ReadFile(file); string(b) != "# mine\nHOTP bert - 00\n" {
		t.Errorf("the file is %q", b)
	}
	if err := Enrol(file, "a b", "VPN", &out); err == nil {
		t.Error("a name with a blank is taken")
	}
	if err := Disenrol(file+"x", "anna", &out); err == nil {
		t.Error("a file that is not there is no error")
	}
}

// TestDrawCode reads the drawing back.
func TestDrawCode(t *testing.T) {
	c, err := qr.Encode("otpauth://totp/x", qr.L)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSuffix(string(drawCode(c)), "\n"), "\n")
	for y := range c.Size {
		line := []rune(rows[(y+2)/2])
		for x := range c.Size {
			half := map[rune][2]bool{'█': {true, true}, '▀': {true, false}, '▄': {false, true}, ' ': {}}[line[x+2]]
			if light := half[(y+2)%2]; light == c.Black(x, y) {
				t.Fatalf("module %d, %d is drawn wrong", x, y)
			}
		}
	}
}
