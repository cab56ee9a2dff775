//go:build cgo && pam

package main

import (
	"fmt"
	"os"

	"rocserv/secmod/helper"
	"rocserv/secmod/helper/pam"
)

func main() {
	if len(os.Args) < 3 || os.Args[1] != "__helper" {
		fmt.Fprintln(os.Stderr, "rocserv-pam is started by rocserv, for auth = pam")
		os.Exit(2)
	}
	os.Exit(helper.Main(os.Args[2:], helper.Table{"pam": {Make: pam.Make, MakeAccount: pam.MakeAccount, Modules: true}}))
}
