package helper

import (
	"os/user"
	"strconv"
)

// maxGroups is how many groups of a user's count (ocserv, MAX_GROUPS).
const maxGroups = 32

// HostGroups are the groups that the host knows of a user of its own, with numbers
// from least on; one that it does not know has none.
func HostGroups(name string, least int) (list []string) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil
	}
	ids, _ := u.GroupIds()
	for _, id := range ids {
		if n, err := strconv.Atoi(id); err != nil || n < least || len(list) == maxGroups {
			continue
		}
		if g, err := user.LookupGroupId(id); err == nil {
			list = append(list, g.Name)
		}
	}
	return list
}

// GroupFiles are what HostGroups reads in a program without C, for a method's Files.
func GroupFiles() []string { return []string{"/etc/passwd", "/etc/group"} }
