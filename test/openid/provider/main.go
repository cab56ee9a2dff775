package main

import (
	"fmt"
	"os"

	"rocserv/test/openid"
)

func main() {
	p, err := openid.Start(os.Args[1], os.Args[2:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, client := range []string{"web", "other"} {
		token, err := p.Token(client)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("%s %s\n", client, token)
	}
	select {}
}
