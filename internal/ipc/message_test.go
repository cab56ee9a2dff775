//go:build !lean

package ipc

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// fill sets every field of a message, and of the messages in it, to something
// that is not its default.
func fill(m protoreflect.Message, depth int) {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if depth > 3 && f.Message() != nil {
			continue
		}
		switch {
		case f.IsMap():
			v := m.Mutable(f).Map()
			for k := range 3 {
				v.Set(protoreflect.ValueOfString(fmt.Sprint(f.Name(), k)).MapKey(), value(f.MapValue(), v.NewValue, k, depth))
			}
		case f.IsList():
			l := m.Mutable(f).List()
			for k := range 3 {
				l.Append(value(f, l.NewElement, k, depth))
			}
		default:
			m.Set(f, value(f, func() protoreflect.Value { return m.NewField(f) }, 1, depth))
		}
	}
}

func value(f protoreflect.FieldDescriptor, fresh func() protoreflect.Value, k, depth int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprint(f.Name(), k))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, 255, byte(k)})
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(k + 1))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(1<<31 + uint32(k))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1<<63 + uint64(k))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(-5 - int32(k))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(-1<<40 - int64(k))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1.5 + float64(k))
	case protoreflect.MessageKind:
		v := fresh()
		fill(v.Message(), depth+1)
		return v
	}
	panic(fmt.Sprintf("field %s of kind %v", f.FullName(), f.Kind()))
}

// What the generated code for the wire writes and reads is what protobuf does:
// processes of two versions may speak, and so may the two codes.
func TestWireIsProtobufs(t *testing.T) {
	describe() // the registry has them from now on
	n := 0
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		if mt.Descriptor().ParentFile() != File_ipc_proto || mt.Descriptor().IsMapEntry() {
			return true
		}
		n++
		name := mt.Descriptor().Name()
		m, ok := mt.New().Interface().(Message)
		if !ok {
			t.Errorf("%s is no Message", name)
			return true
		}
		fill(m.ProtoReflect(), 0)
		b := make([]byte, m.SizeVT())
		if k, err := m.MarshalToSizedBufferVT(b); err != nil || k != len(b) {
			t.Fatalf("%s: wrote %d of %d bytes, %v", name, k, len(b), err)
		}
		got := mt.New().Interface().(Message)
		if err := proto.Unmarshal(b, got); err != nil || !proto.Equal(got, m) {
			t.Errorf("%s: protobuf reads %v, %v; want %v", name, got, err, m)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got = mt.New().Interface().(Message)
		if err := got.UnmarshalVT(b); err != nil || !proto.Equal(got, m) {
			t.Errorf("%s: read %v, %v; want %v", name, got, err, m)
		}
		return true
	})
	if n < 70 {
		t.Errorf("%d messages", n)
	}
}

// Only a trusted peer's strings are taken as they are.
func TestStringsAreUTF8(t *testing.T) {
	x, y := channel(t)
	for _, trusted := range []bool{false, true} {
		if trusted {
			y.Trust()
		}
		if err := x.Send(AuthInitT, 0, &AuthInit{User: "\xff"}); err != nil {
			t.Fatal(err)
		}
		rec, err := y.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if err := rec.Decode(new(AuthInit)); (err == nil) != trusted {
			t.Errorf("trusted %v: %v", trusted, err)
		}
	}
}
