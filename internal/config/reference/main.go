package main

import (
	"fmt"
	"os"
	"path/filepath"

	"rocserv/internal/config"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference FOLDER")
		os.Exit(2)
	}
	parts := config.Parts()
	for name, text := range map[string]string{"config.md": page(parts), "sample.config": sample(parts)} {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(text), 0o644); err != nil {
			fmt.Fprintf(os.Stderr, "error: %v\n", err)
			os.Exit(1)
		}
	}
}
