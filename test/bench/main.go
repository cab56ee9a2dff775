package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rocserv/test/e2e/lab"
)

// options are the command line.
type options struct {
	rows    string
	rounds  int
	seconds int
	quick   bool
	limit   time.Duration
	settle  time.Duration
	servers string
	set     string
	json    string
	doc     string
	from    string
	list    bool
}

func main() {
	lab.Role()
	if len(os.Args) == 2 {
		if run, ok := roles[os.Args[1]]; ok {
			exit(runRole(run))
		}
	}
	var o options
	flag.StringVar(&o.rows, "rows", "", "measure only these `rows`: names or patterns, separated by commas")
	flag.IntVar(&o.rounds, "rounds", 0, "so many `rounds` (default 3, quick 1)")
	flag.IntVar(&o.seconds, "seconds", 0, "of one measurement (default 4, quick 3)")
	flag.BoolVar(&o.quick, "quick", false, "one round of the rows that change most")
	flag.DurationVar(&o.limit, "limit", 14*time.Minute, "begin no measurement after this `time`")
	flag.DurationVar(&o.settle, "settle", 20*time.Second, "wait so long for a quiet machine before a measurement")
	flag.StringVar(&o.servers, "servers", "ocserv,rocserv,floor,libraries", "what to measure; rocserv=`PATH` is another build, named after its file")
	flag.StringVar(&o.set, "set", "", "lines of configuration, separated by ;, that the servers get beside ours")
	flag.StringVar(&o.json, "json", "", "write all samples to this `file`")
	flag.StringVar(&o.doc, "doc", "", "write performance.md and its charts to this `folder`")
	flag.StringVar(&o.from, "from", "", "measure nothing, take the samples from this `file`")
	flag.BoolVar(&o.list, "list", false, "list the rows")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(fmt.Errorf("unknown argument %q", flag.Arg(0)))
	}
	exit(run(o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(o options) error {
	if o.list {
		for _, r := range rows {
			fmt.Printf("%-14s %s\n", r.name, r.title)
		}
		return nil
	}
	res, err := results(o)
	if err != nil {
		return err
	}
	if o.json != "" {
		if err := res.save(o.json); err != nil {
			return err
		}
	}
	fmt.Print("\n" + res.markdown() + res.growths() + res.floors())
	if o.doc != "" {
		if err := res.document(o.doc); err != nil {
			return err
		}
	}
	if n := len(res.Failed); n > 0 && o.from == "" {
		return fmt.Errorf("%d measurements failed", n)
	}
	return nil
}

// results measures, or reads what was measured.
func results(o options) (*result, error) {
	if o.from != "" {
		return load(o.from)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	p := plan{seconds: 4, rounds: 3}
	if o.quick {
		p = plan{seconds: 3, rounds: 1}
	}
	if o.rounds > 0 {
		p.rounds = o.rounds
	}
	if o.seconds > 0 {
		p.seconds = max(o.seconds, 2)
	}
	chosen, err := choose(o.rows, o.quick)
	if err != nil {
		return nil, err
	}
	all, err := contenders(o.servers)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c *contender) bool {
		return !slices.ContainsFunc(chosen, func(r row) bool { return r.measures(c) })
	})
	if o.set != "" {
		settings = append(settings, strings.Split(o.set, ";")...)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	b := &bench{
		plan: p, rows: chosen, contenders: all, settle: o.settle,
		deadline: time.Now().Add(o.limit), interrupted: interrupted, result: newResult(p, all),
	}
	return b.result, b.run()
}

// contenders finds the servers that are named.
func contenders(servers string) (all []*contender, err error) {
	for name := range strings.SplitSeq(servers, ",") {
		name, build, _ := strings.Cut(name, "=")
		c := &contender{label: name, program: lab.Program{Kind: lab.Kind(name), Path: build}}
		if build != "" {
			c.label = filepath.Base(build)
		}
		switch c.program.Kind {
		case lab.Ocserv:
			c.program.Path = "/usr/sbin/ocserv"
		case lab.Rocserv:
			if c.program.Path == "" {
				c.program.Path = os.Getenv("ROCSERV_BIN")
			}
		case floor:
			c.program.Path = os.Getenv("FLOOR_BIN")
		case floorWith:
			c.program.Path = os.Getenv("FLOOR_LIBRARIES_BIN")
		default:
			return nil, fmt.Errorf("-servers: ocserv, rocserv, floor and libraries, not %q", name)
		}
		if c.program.Path == "" {
			return nil, fmt.Errorf("nothing names a program for %s: use test/bench/run, which builds it", name)
		}
		if _, err := os.Stat(c.program.Path); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
