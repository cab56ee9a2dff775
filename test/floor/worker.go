package main

import (
	"bufio"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const handshakeTime = 30 * time.Second

// answer is what a login begins with, of about the length of a server's.
const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 134\r\nConnection: Keep-Alive\r\n\r\n" +
	`<?xml version="1.0" encoding="UTF-8"?><config-auth client="vpn" type="auth-request"><auth id="main"><form></form></auth></config-auth>`

// work is a worker, from its start to the end of its client's connection.
func work() error {
	pair, err := unixConn(pairFD)
	if err != nil {
		return err
	}
	if _, err := pair.Write([]byte{1}); err != nil {
		return err
	}
	cert, conn, err := receive(pair)
	if err != nil || conn == nil {
		return err
	}
	defer conn.Close()
	leaf, err := x509.ParseCertificate(cert)
	if err != nil {
		return err
	}
	from := &gatherer{Conn: conn}
	c := tls.Server(from, &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: signer{leaf.PublicKey, pair}, Leaf: leaf}},
		SessionTicketsDisabled: true,
	})
	conn.SetDeadline(time.Now().Add(handshakeTime))
	q, err := readRequest(bufio.NewReaderSize(c, 4096))
	if err != nil {
		return nil // a client that went
	}
	conn.SetDeadline(time.Time{})
	if q.tunnel {
		return openTunnel(c, from, q.dtls)
	}
	if _, err := io.WriteString(c, answer); err != nil {
		return nil
	}
	return wait(c)
}

// receive waits for a connection. None and no error: the server has no use for
// this worker any more.
func receive(pair *net.UnixConn) (cert []byte, conn net.Conn, err error) {
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, noob, _, _, err := pair.ReadMsgUnix(b, oob)
	if errors.Is(err, io.EOF) || err == nil && n == 0 {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:noob])
	if err != nil || len(messages) != 1 {
		return nil, nil, errors.Join(err, errors.New("no descriptor"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "client")
	defer f.Close()
	conn, err = net.FileConn(f)
	return b[:n], conn, err
}

// wait is an idle tunnel: a TLS connection, a UDP socket and a timer.
func wait(c *tls.Conn) error {
	u, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer u.Close()
	defer tunnel()()
	go io.Copy(io.Discard, u)
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, c)
	}()
	for {
		select {
		case <-tick.C:
		case <-gone:
			return nil
		}
	}
}

// signer asks for signatures.
type signer struct {
	public crypto.PublicKey
	pair   *net.UnixConn
}

func (s signer) Public() crypto.PublicKey { return s.public }

func (s signer) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	if _, err := s.pair.Write(digest); err != nil {
		return nil, err
	}
	b := make([]byte, 256)
	n, err := s.pair.Read(b)
	return b[:n], err
}
