package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const sentinel = "S3ntinel-Value"

// holder has secrets wherever a value can have them.
type holder struct {
	Text   Text
	Bytes  Bytes
	text   Text
	bytes  Bytes
	inner  struct{ deep Bytes }
	list   []Text
	byName map[string]Bytes
	Any    any
}

func TestNothingPrintsThem(t *testing.T) {
	text, raw := NewText(sentinel), NewBytes([]byte(sentinel))
	h := holder{Text: text, Bytes: raw, text: text, bytes: raw, list: []Text{text}, byName: map[string]Bytes{"x": raw}, Any: text}
	h.inner.deep = raw
	for _, v := range []any{text, raw, &text, &raw, h, &h, []any{h, text}} {
		if s := everything(v); strings.Contains(s, sentinel) || strings.Contains(s, fmt.Sprintf("%x", sentinel)) || strings.Contains(s, "83 51 110") {
			t.Errorf("%T: %s", v, s)
		}
	}
	if s := everything(struct{ Plain string }{sentinel}); strings.Count(s, sentinel) < 5 {
		t.Errorf("a plain field shows %d times only: the test sees nothing", strings.Count(s, sentinel))
	}
	for _, v := range []any{text, raw} {
		if s := fmt.Sprintf("%v|%+v|%#v|%s|%q|%x|%d", v, v, v, v, v, v, v); s != strings.Join(strings.Fields(strings.Repeat(Redacted+" ", 7)), "|") {
			t.Errorf("%T: %s", v, s)
		}
	}
}

// everything is all that could be made of a value for a log.
func everything(v any) string {
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("x", "v", v)
	}
	fmt.Fprintf(&b, "%v %+v %#v %s %q %x %X %d %t", v, v, v, v, v, v, v, v, v)
	j, _ := json.Marshal(v) // what has no JSON shows nothing
	return b.String() + string(j)
}

func TestTheSecretItself(t *testing.T) {
	text, raw := NewText(sentinel), NewBytes([]byte(sentinel))
	if text.Reveal() != sentinel || string(raw.Reveal()) != sentinel || text.IsZero() || raw.IsZero() {
		t.Error("it is lost")
	}
	if !text.Equal(NewText(sentinel)) || !raw.Equal(NewBytes([]byte(sentinel))) || text.Equal(NewText("x")) || raw.Equal(Bytes{}) {
		t.Error("Equal is wrong")
	}
	other := raw
	other.Clear()
	if strings.Trim(string(raw.Reveal()), "\x00") != "" {
		t.Error("a copy's Clear leaves it")
	}
	if !(Text{}).IsZero() || !(Bytes{}).IsZero() || NewText("") != (Text{}) || NewBytes(nil) != (Bytes{}) || (Text{}).Reveal() != "" || (Bytes{}).Reveal() != nil {
		t.Error("nothing is something")
	}
	Bytes{}.Clear()
	for given, want := range map[string]string{Redacted: "", "word": "word"} {
		got := NewText("before")
		if err := json.Unmarshal([]byte(`"`+given+`"`), &got); err != nil || got.Reveal() != want {
			t.Errorf("%q is read as %q: %v", given, got.Reveal(), err)
		}
	}
}
