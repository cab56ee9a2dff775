package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// runLimit is for commands that configure something and never wait.
const runLimit = 20 * time.Second

// Netns is a network namespace, as ip-netns(8) has them. It may have a
// resolv.conf of its own.
type Netns struct {
	Name string
}

// Command is a command in the namespace.
func (n Netns) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Name}, argv...)...)
}

// Run runs a command in the namespace to its end and returns what it printed,
// on both channels. The error has that, too.
func (n Netns) Run(argv ...string) (string, error) {
	return n.RunFor(runLimit, "", argv...)
}

// RunFor is Run with a time limit and something on standard input.
func (n Netns) RunFor(limit time.Duration, stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := n.Command(ctx, argv...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	return output(cmd)
}

// IP runs lines of ip(8) in the namespace.
func (n Netns) IP(lines ...string) error {
	return ipBatch([]string{"-n", n.Name}, lines...)
}

// Nft replaces a table of rules in the namespace. Each rule is a line of the
// chain it names first: "output udp dport 443 drop". No rules, no table. Who
// sends what an output rule drops is told; an input rule is silent.
func (n Netns) Nft(table string, rules ...string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %[1]s\ndelete table inet %[1]s\n", table)
	if len(rules) > 0 {
		fmt.Fprintf(&b, "table inet %s {\n", table)
		for _, hook := range []string{"input", "forward", "output"} {
			fmt.Fprintf(&b, "chain %s { type filter hook %s priority 0;\n", hook, hook)
			for _, r := range rules {
				if rule, ok := strings.CutPrefix(r, hook+" "); ok {
					fmt.Fprintln(&b, rule)
				}
			}
			b.WriteString("}\n")
		}
		b.WriteString("}\n")
	}
	_, err := n.RunFor(runLimit, b.String(), "nft", "-f", "-")
	return err
}

// Sysctl writes settings, "net/ipv4/ip_forward=1".
func (n Netns) Sysctl(settings ...string) error {
	var b strings.Builder
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		fmt.Fprintf(&b, "echo '%s' >/proc/sys/%s\n", value, name)
	}
	_, err := n.RunFor(runLimit, b.String(), "sh", "-e")
	return err
}

// SetResolvers makes the namespace's resolv.conf. Programs started later see
// it, those that run see it only if it was there before.
func (n Netns) SetResolvers(addrs ...string) error {
	dir := "/etc/netns/" + n.Name
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var b strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	return os.WriteFile(dir+"/resolv.conf", []byte(b.String()), 0o644)
}

// ipBatch runs lines of ip(8) with options in front.
func ipBatch(options []string, lines ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append(options, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	_, err := output(cmd)
	return err
}

func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out), nil
}
