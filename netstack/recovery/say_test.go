package recovery

import "testing"

// TestSay: an acknowledgement may be late if all it says is that a little has come.
func TestSay(t *testing.T) {
	type step struct {
		ack    uint32
		window uint16
		bare   bool
		late   bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"the first", []step{{1000, 500, true, false}}},
		{"a request", []step{{1000, 500, false, false}, {1064, 499, true, true}, {1064, 500, false, false}, {1128, 499, true, true}}},
		{"said again", []step{{1000, 500, false, false}, {1064, 500, true, true}, {1064, 500, true, false}}},
		{"a wider window", []step{{1000, 500, false, false}, {1064, 501, true, false}}},
		{"much at once", []step{{1000, 500, false, false}, {1000 + lateMost + 1, 500, true, false}}},
		{"much in little parts", []step{{1000, 500, false, false}, {1600, 500, true, true}, {2200, 500, true, false}, {2800, 500, true, true}}},
		{"over the end of the numbers", []step{{^uint32(9), 500, false, false}, {50, 500, true, true}}},
		{"back", []step{{1000, 500, false, false}, {900, 500, true, false}}},
	} {
		var r reply
		for i, s := range tt.steps {
			if late := r.say(s.ack, s.window, s.bare); late != s.late {
				t.Errorf("%s, step %d: late is %v", tt.name, i, late)
			}
			if !r.said || r.ack != s.ack || r.window != s.window {
				t.Errorf("%s, step %d: %+v", tt.name, i, r)
			}
		}
	}
}
