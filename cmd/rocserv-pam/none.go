//go:build !cgo || !pam

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "rocserv-pam was built without libpam: make pam builds it with")
	os.Exit(1)
}
