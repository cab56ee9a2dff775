package house

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"rocserv/egress/httpproxy"
	"rocserv/egress/socks5"
	"rocserv/egress/way"
	"rocserv/internal/config"
	"rocserv/internal/oath"
	"rocserv/internal/secret"
	"rocserv/internal/session"
	"rocserv/internal/wire"
	"rocserv/worker/dtls"
)

// sentinel is 32 bytes, so that it is a SID too.
const sentinel = "S3ntinel-0123456789-abcdefghijkl"

// holders are our types that hold secrets and that others can name.
var holders = []any{
	config.Config{}, config.Vhost{}, config.Way{}, httpproxy.Login{}, socks5.Login{}, way.Definition{}, oath.Token{},
	dtls.Config{}, wire.AuthRequest{}, wire.Connect{}, session.SID{},
}

// Whatever a log line is given of them by mistake, no secret is in it.
func TestNoStructPrintsItsSecrets(t *testing.T) {
	for _, zero := range holders {
		v := reflect.New(reflect.TypeOf(zero)).Elem()
		if fill(v, "", 0) == 0 {
			t.Errorf("%T: no secret is found in it", zero)
		}
		if leak := leaks(v.Interface()); leak != "" {
			t.Errorf("%T prints a secret: %s", zero, leak)
		}
		if leak := leaks(v.Addr().Interface()); leak != "" {
			t.Errorf("*%T prints a secret: %s", zero, leak)
		}
	}
	type plain struct{ Password string }
	type inner struct{ psk []byte }
	type hidden struct{ inner inner }
	for _, zero := range []any{plain{}, hidden{inner{psk: nil}}} {
		v := reflect.New(reflect.TypeOf(zero)).Elem()
		if fill(v, "", 0) != 1 || leaks(v.Interface()) == "" {
			t.Errorf("a plain field of %T is not found: the test sees nothing", zero)
		}
	}
}

// fill puts the sentinel into every secret of v: what has a type for it, and
// what has a name for it and is plain. It returns how many it found.
func fill(v reflect.Value, name string, depth int) (n int) {
	if depth > 8 {
		return 0
	}
	if v.CanAddr() && !v.CanSet() {
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	switch v.Interface().(type) {
	case secret.Text:
		v.Set(reflect.ValueOf(secret.NewText(sentinel)))
		return 1
	case secret.Bytes:
		v.Set(reflect.ValueOf(secret.NewBytes([]byte(sentinel))))
		return 1
	case wire.Secret:
		v.SetBytes([]byte(sentinel))
		return 1
	case session.SID:
		copy(v.Slice(0, v.Len()).Bytes(), sentinel)
		return 1
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			n += fill(v.Field(i), v.Type().Field(i).Name, depth+1)
		}
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct && strings.HasPrefix(v.Type().Elem().PkgPath(), module) {
			v.Set(reflect.New(v.Type().Elem()))
			n = fill(v.Elem(), name, depth+1)
		}
	case reflect.Slice:
		switch {
		case v.Type().Elem().Kind() == reflect.Uint8 && secretName.MatchString(name):
			v.SetBytes([]byte(sentinel))
			return 1
		case v.Type().Elem().Kind() == reflect.Struct || v.Type().Elem().Kind() == reflect.Pointer:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			n = fill(v.Index(0), name, depth+1)
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String && v.Type().Elem() == reflect.TypeFor[wire.Secret]() {
			v.Set(reflect.ValueOf(map[string]wire.Secret{"password": wire.Secret(sentinel)}))
			return 1
		}
	case reflect.String:
		if secretName.MatchString(name) && !strings.HasSuffix(name, "File") {
			v.SetString(sentinel)
			return 1
		}
	}
	return n
}

// leaks is a form in which the sentinel is in what v prints; empty: none.
func leaks(v any) string {
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("x", "v", v)
	}
	fmt.Fprintf(&b, "%v %+v %#v %s %x %d", v, v, v, v, v, v)
	if j, err := json.Marshal(v); err == nil {
		b.Write(j)
	}
	decimal := strings.Trim(fmt.Sprint([]byte(sentinel)), "[]")
	for _, form := range []string{sentinel, hex.EncodeToString([]byte(sentinel)), base64.StdEncoding.EncodeToString([]byte(sentinel))[:40], decimal, strings.ReplaceAll(decimal, " ", ","), "0x53, 0x33, 0x6e"} {
		if strings.Contains(b.String(), form) {
			return form
		}
	}
	return ""
}
