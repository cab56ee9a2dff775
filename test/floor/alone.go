//go:build !libraries

package main

import "crypto/tls"

// tunnel is nothing: see libraries.go.
func tunnel() (end func()) { return func() {} }

// offerDTLS offers nothing: see dtls.go.
func offerDTLS(*tls.Conn, *carrier) (lines string, end func(), err error) {
	return "", func() {}, nil
}
