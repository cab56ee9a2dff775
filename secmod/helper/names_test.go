package helper

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// What was known of a name stays when nothing is found for it.
func TestNamesKeepWhatIsKnown(t *testing.T) {
	at := netip.MustParseAddr("192.0.2.7")
	found, failure := []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.7")}, error(nil)
	n, warnings := Resolve(func(context.Context, string, string) ([]netip.Addr, error) { return found, failure }, "server")
	if len(warnings) > 0 || !slices.Equal(n.known["server"], []netip.Addr{at}) {
		t.Fatalf("known: %v, %v", n.known, warnings)
	}
	broken := errors.New("broken")
	for _, failure = range []error{nil, broken} {
		found = nil
		if _, err := n.refresh(t.Context(), "server"); err == nil || failure != nil && err != failure {
			t.Errorf("%v where the look-up says %v", err, failure)
		}
		if !n.Known("server") {
			t.Errorf("forgotten after %v", failure)
		}
	}
	if list, err := n.refresh(t.Context(), "::ffff:192.0.2.7"); err != nil || !slices.Equal(list, []netip.Addr{at}) {
		t.Errorf("an address: %v, %v", list, err)
	}
}
