package helper

import "testing"

// TestHostGroups: the host's, from a number on.
func TestHostGroups(t *testing.T) {
	if got := HostGroups("root", 0); len(got) == 0 || got[0] != "root" {
		t.Errorf("root's groups: %v", got)
	}
	if got := HostGroups("root", 1<<30); len(got) != 0 {
		t.Errorf("root's groups from there on: %v", got)
	}
	if got := HostGroups("nobody-of-that-name", 0); got != nil {
		t.Errorf("an unknown user's: %v", got)
	}
}
