package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"rocserv/test/client"
)

func main() {
	var l client.Load
	flag.StringVar(&l.Server, "server", "", "`HOST:PORT` of the server")
	flag.StringVar(&l.User, "user", "", "user name")
	flag.StringVar(&l.Password, "password", "", "password")
	flag.BoolVar(&l.DTLS, "dtls", true, "make a DTLS channel, too")
	flag.IntVar(&l.Tunnels, "tunnels", 1, "how many tunnels")
	flag.IntVar(&l.AtOnce, "at-once", 8, "logins under way at the same time")
	flag.StringVar((*string)(&l.Mode), "mode", "hold", "hold, up, down, echo")
	flag.StringVar(&l.Target, "target", "", "`ADDR:PORT` behind the server, IPv4: an echo service for hold and echo, a sink for up, a source for down")
	flag.IntVar(&l.Flows, "flows", 1, "TCP flows of each tunnel")
	flag.IntVar(&l.Size, "size", 64, "payload of a datagram")
	flag.IntVar(&l.Rate, "rate", 1000, "datagrams a second, of all tunnels together")
	flag.Float64Var(&l.Seconds, "seconds", 10, "how long, once all tunnels are open")
	flag.Parse()
	if l.Server == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := client.Run(ctx, l, client.Told{Ready: func(client.Report) { fmt.Println("ready") }})
	out, jerr := json.Marshal(report)
	if jerr != nil {
		panic(jerr)
	}
	fmt.Println(string(out))
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
	}
	if err != nil || report.Failed+report.Broken+report.Silent > 0 {
		os.Exit(1)
	}
}
