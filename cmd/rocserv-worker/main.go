package main

import (
	"fmt"
	"os"

	"rocserv/internal/build"
	"rocserv/worker"
)

// roleWorker is the role's argument, as rocserv's.
const roleWorker = "__worker"

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case roleWorker:
			os.Exit(worker.Main(os.Args[2:]))
		case build.Ask:
			fmt.Println(build.Fingerprint())
			return
		}
	}
	fmt.Fprintln(os.Stderr, build.WorkerName+" is started by rocserv, for each client")
	os.Exit(2)
}
