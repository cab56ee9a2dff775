package doctor

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rocserv/internal/capacity"
	"rocserv/internal/config"
)

// The states of a Finding.
const (
	OK  = "ok"
	Gap = "gap"
	Bad = "bad"
)

// Finding is one thing the host gives or does not.
type Finding struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Have  string `json:"have"`
	Costs string `json:"costs,omitempty"` // what does not work
	Close string `json:"close,omitempty"` // the line that changes it
}

// Room is how many clients one limit allows.
type Room struct {
	Kind    string `json:"kind"`
	Limit   string `json:"limit"`
	Have    uint64 `json:"have,omitempty"` // 0: no limit
	Clients int    `json:"clients,omitempty"`
	Decides bool   `json:"decides,omitempty"`
	Close   string `json:"close,omitempty"`
}

// Report is what doctor says.
type Report struct {
	UID       int       `json:"uid"`
	Container string    `json:"container,omitempty"`
	Host      []Finding `json:"host"`
	Config    []Finding `json:"configuration,omitempty"`
	Room      []Room    `json:"room"`
	Clients   int       `json:"clients"`
	Methods   []Finding `json:"login_methods"`
}

// Bad reports whether anything is.
func (r *Report) Bad() bool {
	return slices.ContainsFunc(slices.Concat(r.Host, r.Config), func(f Finding) bool { return f.State == Bad })
}

// Judge says what the facts come to; cfg may be nil.
func Judge(f *Facts, cfg *config.Config) *Report {
	r := &Report{UID: f.UID, Container: f.Container}
	for _, row := range rows {
		r.Host = append(r.Host, row(f, cfg))
	}
	r.Room, r.Clients = room(f, cfg)
	r.Methods = judgeMethods(f)
	if cfg != nil {
		r.Config = judgeConfig(f, cfg, r.Clients)
	}
	return r
}

// rows are the questions to the host, in the order of the report.
var rows = []func(*Facts, *config.Config) Finding{
	judgeUser, judgeIPv4, judgeIPv6, judgePing, judgeLow, judgeSegment, judgeReceive, judgeLandlock, judgeFilter, judgeResolvers, judgeWorkers,
}

// sysctl is how a value of the kernel's network is set here.
func (f *Facts) sysctl(name, value string) string {
	switch f.Container {
	case "kubernetes":
		return fmt.Sprintf("in the pod: securityContext.sysctls: [{name: %s, value: %q}]", name, value)
	case "":
		return fmt.Sprintf("as root: sysctl -w %s=%q", name, value)
	}
	return fmt.Sprintf("%s run --sysctl %s=%q", f.Container, name, value)
}

func ok(name, have string) Finding { return Finding{Name: name, State: OK, Have: have} }

func judgeUser(f *Facts, _ *config.Config) Finding {
	have := fmt.Sprintf("uid %d", f.UID)
	if f.UID != 0 {
		return ok("user", have)
	}
	return Finding{"user", Gap, "root", "a process that is taken over is root's", "start it as a user of its own: setpriv --reuid=rocserv --clear-groups, or User= of systemd"}
}

func judgeIPv4(f *Facts, _ *config.Config) Finding {
	if f.Network.Out4 {
		return ok("IPv4", "there is a way out")
	}
	return Finding{"IPv4", Gap, "no route to the world", "clients reach IPv4 networks of this host only", "give the host a default route: ip route add default via ROUTER"}
}

func judgeIPv6(f *Facts, _ *config.Config) Finding {
	switch {
	case f.Network.IPv6 != nil:
		return Finding{"IPv6", Gap, f.Network.IPv6.Error(), "no client gets IPv6", "boot without ipv6.disable=1"}
	case f.Network.Out6:
		return ok("IPv6", "there is a way out")
	}
	line := "give the host a default route: ip -6 route add default via ROUTER"
	switch f.Container {
	case "podman":
		line = "podman run --network=pasta, or a network with --ipv6"
	case "docker":
		line = "a network made with docker network create --ipv6"
	}
	return Finding{"IPv6", Gap, "no route to the world", "clients are given IPv4 only", line}
}

func judgePing(f *Facts, _ *config.Config) Finding {
	n := &f.Network
	if n.Ping4 == nil && (n.Ping6 == nil || n.IPv6 != nil) {
		return ok("ping sockets", "allowed")
	}
	have := "IPv4: " + said(n.Ping4) + ", IPv6: " + said(n.Ping6)
	return Finding{"ping sockets", Gap, have, "clients' pings are answered as prohibited, but for those to the gateway",
		f.sysctl("net.ipv4.ping_group_range", "0 2147483647")}
}

func said(err error) string {
	if err == nil {
		return "allowed"
	}
	return err.Error()
}

func judgeLow(f *Facts, _ *config.Config) Finding {
	if !forbidden(f.Low) {
		return ok("ports below 1024", "allowed")
	}
	return Finding{"ports below 1024", Gap, f.Low.Error(), "no port 443: clients need the port in the address", f.sysctl("net.ipv4.ip_unprivileged_port_start", "443")}
}

func forbidden(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

func judgeSegment(f *Facts, _ *config.Config) Finding {
	have := "UDP_SEGMENT"
	if f.UDP.GRO == nil {
		have += ", UDP_GRO"
	}
	if f.UDP.Segment == nil {
		return ok("UDP offload", have)
	}
	return Finding{"UDP offload", Gap, "no UDP_SEGMENT: " + f.UDP.Segment.Error(), "DTLS sends packets one by one: more CPU per byte", "a kernel of 4.18 or later"}
}

// wantReceive is what a worker asks for its DTLS socket (worker/dtls).
const wantReceive = 1 << 20

func judgeReceive(f *Facts, _ *config.Config) Finding {
	have := size(uint64(f.UDP.Receive))
	if f.UDP.Receive >= wantReceive {
		return ok("socket buffers", have)
	}
	return Finding{"socket buffers", Gap, have + " at most", "datagrams of a fast upload are lost while a worker is busy", fmt.Sprintf("as root, on the host: sysctl -w net.core.rmem_max=%d", wantReceive)}
}

func judgeLandlock(f *Facts, cfg *config.Config) Finding {
	switch v := f.Kernel.Landlock; {
	case v == 0:
		return Finding{"Landlock", required(cfg), "none", "files are kept from workers by the system call filter alone, from sec-mod by nothing",
			"boot with lsm=landlock,…; in a container, a seccomp profile that knows landlock_*"}
	case v < 6:
		return Finding{"Landlock", Gap, fmt.Sprintf("version %d", v), "signals and abstract sockets are not confined by it", "a kernel of 6.12 or later"}
	default:
		return ok("Landlock", fmt.Sprintf("version %d", v))
	}
}

func judgeFilter(f *Facts, cfg *config.Config) Finding {
	if f.Kernel.Filter == nil {
		return ok("system call filter", "available")
	}
	return Finding{"system call filter", required(cfg), f.Kernel.Filter.Error(), "a worker that is taken over can use every system call of its user",
		"a kernel with CONFIG_SECCOMP_FILTER; in a container, a profile that allows seccomp(2)"}
}

// required is the state of a layer of confinement that is missing.
func required(cfg *config.Config) string {
	if cfg != nil && cfg.Global.RequireConfinement {
		return Bad
	}
	return Gap
}

func judgeResolvers(f *Facts, _ *config.Config) Finding {
	if len(f.Resolvers) == 0 {
		return Finding{"resolvers", Gap, "none in /etc/resolv.conf", "names are asked of 127.0.0.1, port 53", "echo nameserver ADDRESS >> /etc/resolv.conf"}
	}
	var list []string
	for _, a := range f.Resolvers {
		list = append(list, a.String())
	}
	return ok("resolvers", strings.Join(list, ", "))
}

func judgeWorkers(f *Facts, _ *config.Config) Finding {
	const name, costs = "workers", "a client's process takes a fifth more of processor time to start, and 0.16 MB more memory"
	switch w := f.Workers; {
	case w.Program == "":
		return Finding{name, Gap, "the server's own program", costs, "make build, and put rocserv-worker beside rocserv"}
	case w.Err != nil:
		return Finding{name, Gap, fmt.Sprintf("the server's own program: %s is not used: %v", w.Program, w.Err), costs, "install rocserv and rocserv-worker of one build, both its owner's or root's"}
	default:
		return ok(name, "a program of their own, "+w.Program)
	}
}

// room is the table of sizes, and how many clients there can be in all.
func room(f *Facts, cfg *config.Config) (list []Room, clients int) {
	clients, by := f.Capacity.Workers()
	for _, l := range f.Capacity.Limits() {
		r := Room{Kind: l.Kind, Limit: l.Name, Have: l.Have, Clients: l.Workers}
		if l.Have == math.MaxUint64 {
			r.Have, r.Clients, r.Limit = 0, 0, "no limit"
		} else if strings.HasPrefix(by, l.Name) {
			r.Decides, r.Close = true, f.roomLine(l)
		}
		list = append(list, r)
	}
	if cfg == nil || cfg.Global.MaxClients == 0 {
		return list, clients
	}
	most := Room{Kind: "max-clients", Limit: "the configuration", Have: uint64(cfg.Global.MaxClients), Clients: cfg.Global.MaxClients}
	if most.Clients <= clients {
		clients, most.Decides = most.Clients, true
		for i := range list {
			list[i].Decides, list[i].Close = false, ""
		}
	}
	return append(list, most), clients
}

// roomLine raises a limit.
func (f *Facts) roomLine(l capacity.Limit) string {
	flags := map[string]string{"threads": "--pids-limit=16384", "files": "--ulimit nofile=65536:65536", "memory": "--memory=4g"}
	settings := map[string]string{"threads": "TasksMax=16384", "files": "LimitNOFILE=65536", "memory": "MemoryMax=4G"}
	switch {
	case strings.HasPrefix(l.Name, "kernel."):
		return fmt.Sprintf("as root, on the host: sysctl -w %s=%d", l.Name, 4*l.Have)
	case l.Name == "available memory":
		return "more memory"
	case strings.Contains(l.Name, "RLIMIT_NPROC"):
		return "LimitNPROC=infinity in the service's unit, or limits.conf(5): nproc"
	case f.Container == "kubernetes":
		return "resources.limits of the pod; podPidsLimit of the kubelet"
	case f.Container != "":
		return f.Container + " run " + flags[l.Kind]
	}
	return settings[l.Kind] + " in the service's unit"
}

// judgeConfig says what stands in the way of a configuration.
func judgeConfig(f *Facts, cfg *config.Config, clients int) (list []Finding) {
	byText := func(a, b Port) int { return strings.Compare(a.String(), b.String()) }
	for _, p := range slices.SortedFunc(maps.Keys(f.Ports), byText) {
		list = append(list, f.judgePort(p))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Files)) {
		if err := f.Files[name]; err != nil {
			line := fmt.Sprintf("chown %d %s, and look at the folders above", f.UID, name)
			if errors.Is(err, unix.ENOENT) {
				line = "make it, or name another in the configuration"
			}
			list = append(list, Finding{name, Bad, err.Error(), "sec-mod opens it at start", line})
		}
	}
	if n := cfg.Global.MaxClients; n > clients {
		list = append(list, Finding{"max-clients", Gap, fmt.Sprint(n), fmt.Sprintf("%d are let in", clients), "raise the limit that decides, or set max-clients = " + fmt.Sprint(clients)})
	}
	if g := &cfg.Global; g.RequireConfinement && !g.Isolate {
		list = append(list, Finding{"require-confinement", Bad, "true", "contradicts isolate-workers = false: the server does not start", "isolate-workers = true"})
	}
	if n := len(cfg.Warnings); n > 0 {
		list = append(list, Finding{"options", Gap, fmt.Sprintf("%d warnings", n), "something is not in effect as written", "rocserv -t -c FILE names each"})
	}
	return list
}

func (p Port) String() string { return strings.ToUpper(p.Network) + " " + p.Addr.String() }

func (f *Facts) judgePort(p Port) Finding {
	err := f.Ports[p]
	switch {
	case err == nil:
		return ok(p.String(), "free")
	case forbidden(err):
		return Finding{p.String(), Bad, err.Error(), "the server does not start", f.sysctl("net.ipv4.ip_unprivileged_port_start", fmt.Sprint(p.Addr.Port())) + "; or another port"}
	case errors.Is(err, unix.EADDRINUSE):
		return Finding{p.String(), Gap, err.Error(), "if that is not the server itself, it does not start", fmt.Sprintf("ss -lnp 'sport = %d' says who has it", p.Addr.Port())}
	}
	return Finding{p.String(), Bad, err.Error(), "the server does not start", "listen-host = an address of this host"}
}

// size is a number of bytes for people.
func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
