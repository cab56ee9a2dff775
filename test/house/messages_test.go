package house

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"rocserv/internal/ipc"
)

// secretFields are fields of messages that hold secrets by another name.
var secretFields = map[protoreflect.FullName]bool{
	"rocserv.ipc.HelperAnswer.answer": true, // a password, a code or a ticket
	"rocserv.ipc.ResumeReq.data":      true, // of a TLS session
	"rocserv.ipc.ResumeRep.data":      true,
}

// openFields are fields of messages with a secret's name, and maps, that hold no
// secret, each with the reason.
var openFields = map[protoreflect.FullName]string{
	"rocserv.ipc.AuthCookieRep.previous_psk_sha256": "a hash of 32 random bytes",
	"rocserv.ipc.SessionInfo.psk_sha256":            "a hash of 32 random bytes",
	"rocserv.ipc.SecmConfig.keyring":                "sealed by sec-mod",
	"rocserv.ipc.SecmConfigRep.keyring":             "sealed by sec-mod",
	"rocserv.ipc.HelperMethod.options":              "names of files and settings; what is in the files the helper reads itself",
	"rocserv.ipc.WayOut.pins":                       "hashes of public keys",
	"rocserv.ipc.DNSServer.pins":                    "hashes of public keys",
}

// Whatever a log line is given of a message with a secret, or with a message
// that has one, the secret is not in it. (String and protojson know nothing of
// that: nobody here uses them on messages, TestNoTextOfMessages.)
func TestMessagesDoNotPrintTheirSecrets(t *testing.T) {
	new(ipc.WorkerStartup).ProtoReflect() // the registry has them from now on
	messages, seen := 0, map[protoreflect.FullName]bool{}
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		if mt.Descriptor().ParentFile() != ipc.File_ipc_proto {
			return true
		}
		m := mt.New()
		if !fillMessage(m, seen, 0) {
			return true
		}
		messages++
		for _, v := range []any{m.Interface(), []proto.Message{m.Interface()}, struct{ M any }{m.Interface()}} {
			if leak := leaks(v); leak != "" {
				t.Errorf("%s prints a secret, as %T: %s (internal/ipc/redact.go)", mt.Descriptor().Name(), v, leak)
			}
		}
		// Of a field that is not exported fmt asks nothing; a pointer is an address,
		// but for verbs that do not fit one.
		if s := fmt.Sprintf("%v %+v %#v", struct{ m proto.Message }{m.Interface()}, m.Interface(), m.Interface()); strings.Contains(s, sentinel) {
			t.Errorf("%s prints a secret inside a struct: %s", mt.Descriptor().Name(), s)
		}
		return true
	})
	if messages < 8 {
		t.Errorf("only %d messages with secrets: the test sees nothing", messages)
	}
	for name := range openFields {
		if !seen[name] {
			t.Errorf("%s has a reason and is not there", name)
		}
	}
	for name := range secretFields {
		if !seen[name] {
			t.Errorf("%s is not there", name)
		}
	}
	if leaks(&ipc.Group{Name: sentinel}) == "" {
		t.Error("a message that may print does not: the test sees nothing")
	}
}

// fillMessage puts the sentinel into every secret of a message, and into the
// messages in it, and says whether there is any.
func fillMessage(m protoreflect.Message, seen map[protoreflect.FullName]bool, depth int) (found bool) {
	if depth > 4 {
		return false
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.IsMap() {
			found = fillMap(m, f, seen) || found
			continue
		}
		if f.Kind() == protoreflect.MessageKind {
			if f.IsList() {
				list := m.Mutable(f).List()
				found = fillMessage(list.AppendMutable().Message(), seen, depth+1) || found
			} else {
				found = fillMessage(m.Mutable(f).Message(), seen, depth+1) || found
			}
			continue
		}
		value, ok := sentinelOf(f)
		if !ok {
			continue
		}
		if !secretFields[f.FullName()] && !secretName.MatchString(string(f.Name())) {
			continue
		}
		seen[f.FullName()] = true
		if openFields[f.FullName()] != "" {
			continue
		}
		if f.IsList() {
			m.Mutable(f).List().Append(value)
		} else {
			m.Set(f, value)
		}
		found = true
	}
	return found
}

// fillMap puts the sentinel into a map, which may hold anything: all of it is
// secret unless there is a reason.
func fillMap(m protoreflect.Message, f protoreflect.FieldDescriptor, seen map[protoreflect.FullName]bool) bool {
	seen[f.FullName()] = true
	if openFields[f.FullName()] != "" {
		return false
	}
	key, ok := sentinelOf(f.MapKey())
	if !ok {
		key = f.MapKey().Default()
	}
	value, ok := sentinelOf(f.MapValue())
	if !ok {
		value = m.Mutable(f).Map().NewValue()
	}
	m.Mutable(f).Map().Set(key.MapKey(), value)
	return true
}

// sentinelOf is the sentinel as a field has it; ok: it holds text or bytes.
func sentinelOf(f protoreflect.FieldDescriptor) (value protoreflect.Value, ok bool) {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(sentinel), true
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(sentinel)), true
	}
	return protoreflect.Value{}, false
}

// Nobody makes text or JSON of messages past what they print themselves.
func TestNoTextOfMessages(t *testing.T) {
	for _, p := range list(t) {
		for _, i := range p.Imports {
			if i == "google.golang.org/protobuf/encoding/prototext" || i == "google.golang.org/protobuf/encoding/protojson" {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}
