package mainproc

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"
)

// portHolder says who has a port, for an error message: the process, if it is
// ours to see, else the user.
func portHolder(proto string, a netip.AddrPort) string {
	root := os.DirFS("/")
	sockets := portSockets(root, proto, a)
	if len(sockets) == 0 {
		return ""
	}
	if p := socketOwner(root, sockets[0].inode); p != "" {
		return p
	}
	return "a process of uid " + sockets[0].uid
}

// holder is a row of /proc/net/tcp and its kind.
type holder struct{ uid, inode string }

// portSockets returns the sockets bound to a's port in a way that is in the
// way of a: listening ones of TCP, all of UDP.
func portSockets(root fs.FS, proto string, a netip.AddrPort) []holder {
	const listening = "0A" // TCP_LISTEN in include/net/tcp_states.h
	var list []holder
	name := "proc/net/" + strings.ToLower(proto)
	for _, file := range []string{name, name + "6"} {
		b, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode, proc_net_tcp.rst
			f := strings.Fields(line)
			if len(f) < 10 || proto == "TCP" && f[3] != listening {
				continue
			}
			_, port, ok := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(port, 16, 16); ok && err == nil && uint16(n) == a.Port() && f[9] != "0" {
				list = append(list, holder{uid: f[7], inode: f[9]})
			}
		}
	}
	return list
}

// socketOwner finds the process that has the socket open.
func socketOwner(root fs.FS, inode string) string {
	want := "socket:[" + inode + "]"
	links, _ := fs.Glob(root, "proc/[0-9]*/fd/*")
	for _, l := range links {
		target, err := fs.ReadLink(root, l)
		if err != nil || target != want {
			continue
		}
		pid := strings.Split(l, "/")[1]
		comm, _ := fs.ReadFile(root, path.Join("proc", pid, "comm"))
		return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(comm)))
	}
	return ""
}
