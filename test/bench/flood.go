package main

import (
	"fmt"
	"net"
)

// Ports of tgt's source and sink of bytes.
const (
	portSource = 9100
	portSink   = 9101
)

// flood is the role of tgt's source and sink. It runs until it is killed.
func flood(struct{}) (struct{}, error) {
	zeros := make([]byte, 256<<10)
	failed := make(chan error, 2)
	for port, serve := range map[int]func(net.Conn){
		portSource: func(c net.Conn) {
			for err := error(nil); err == nil; {
				_, err = c.Write(zeros)
			}
		},
		portSink: func(c net.Conn) {
			b := make([]byte, 256<<10)
			for err := error(nil); err == nil; {
				_, err = c.Read(b)
			}
		},
	} {
		ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return struct{}{}, err
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					failed <- err
					return
				}
				go func() {
					defer c.Close()
					serve(c)
				}()
			}
		}()
	}
	fmt.Println("flooding")
	return struct{}{}, <-failed
}
