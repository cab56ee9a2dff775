//go:build libraries

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/pion/dtls/v3"
	"golang.org/x/sys/unix"
)

const (
	appIDLen = 32
	pskLen   = 32

	// Around a packet in a record: header and explicit nonce (RFC 6347 section
	// 4.1, RFC 5288 section 3) and the type before, the tag behind.
	recordFront = 13 + 8 + 1
	recordBack  = 16
	recordData  = 23
)

// offerDTLS opens a UDP socket for a client and gives the lines of the answer
// that say so.
func offerDTLS(c *tls.Conn, to *carrier) (lines string, end func(), err error) {
	state := c.ConnectionState()
	psk, err := state.ExportKeyingMaterial("EXPORTER-openconnect-psk", nil, pskLen)
	if err != nil {
		return "", nil, err
	}
	u, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return "", nil, err
	}
	if err := u.SetReadBuffer(1 << 20); err != nil { // the kernel gives what it allows
		return "", nil, err
	}
	id := make([]byte, appIDLen)
	rand.Read(id) // it cannot fail
	go func() {
		if err := serveDTLS(u, psk, to); err != nil {
			fmt.Fprintln(os.Stderr, "floor:", err)
		}
	}()
	return fmt.Sprintf("X-DTLS-CipherSuite: PSK-NEGOTIATE\r\nX-DTLS-App-ID: %x\r\nX-DTLS-Port: %d\r\n", id, u.LocalAddr().(*net.UDPAddr).Port),
		func() { u.Close() }, nil
}

// serveDTLS does the handshake, answers the client's requests, with which it finds its
// MTU, and passes its echo requests on. From an upload's first packet on records of full
// size are only counted.
func serveDTLS(u *net.UDPConn, psk []byte, to *carrier) error {
	first := make([]byte, 2048)
	n, peer, err := u.ReadFrom(first)
	if err != nil {
		return nil // a client that never came
	}
	s := &datagrams{UDPConn: u, peer: peer, first: first[:n], to: to}
	c, err := dtls.ServerWithOptions(s, peer,
		dtls.WithPSK(func([]byte) ([]byte, error) { return psk, nil }),
		dtls.WithCipherSuites(dtls.TLS_PSK_WITH_AES_128_GCM_SHA256),
		dtls.WithInsecureSkipVerifyHello(true))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	echoes, err := newEchoer(func(p []byte) error {
		_, err := c.Write(append([]byte{typeData}, p...))
		return err
	})
	if err != nil {
		return err
	}
	defer echoes.close()
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil // a client that went
		}
		switch {
		case n > leastLoad && b[0] == typeData:
			s.loaded.Store(true)
			err = to.packet(b[1:n])
		case n > 0 && b[0] == typeData:
			echoes.ask(b[1:n])
		case n > 0 && b[0] == typeDPD:
			b[0] = typeDPDBack
			_, err = c.Write(b[:n])
		}
		if err != nil {
			return err
		}
	}
}

// datagrams is the socket as pion sees it: from an upload's first packet on no record
// of full size comes.
type datagrams struct {
	*net.UDPConn
	peer   net.Addr
	first  []byte // read already
	loaded atomic.Bool
	to     *carrier
	opened [][]byte // records between the upload's that are to be opened
}

func (s *datagrams) ReadFrom(b []byte) (int, net.Addr, error) {
	if s.first != nil {
		n := copy(b, s.first)
		s.first = nil
		return n, s.peer, nil
	}
	if s.loaded.Load() && len(s.opened) == 0 {
		if err := s.count(); err != nil {
			return 0, nil, err
		}
	}
	if len(s.opened) > 0 {
		n := copy(b, s.opened[0])
		s.opened = s.opened[1:]
		return n, s.peer, nil
	}
	return s.UDPConn.ReadFrom(b)
}

const batch = gatherSize / mtuDTLS

// count takes records of full size unopened, until others come or the socket is closed.
func (s *datagrams) count() error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	records, headers := make([][]byte, batch), make([]mmsghdr, batch)
	for i := range headers {
		records[i] = make([]byte, 2048)
		part := &unix.Iovec{Base: &records[i][0]}
		part.SetLen(len(records[i]))
		headers[i].Iov = part
		headers[i].SetIovlen(1)
	}
	for {
		var n uintptr
		var failed unix.Errno
		err := raw.Read(func(fd uintptr) bool {
			n, _, failed = unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&headers[0])), batch, unix.MSG_DONTWAIT, 0, 0)
			return failed != unix.EAGAIN
		})
		if err != nil {
			return err
		}
		if failed != 0 {
			return failed
		}
		if err := s.carry(records, headers[:n]); err != nil {
			return err
		}
		if len(s.opened) > 0 {
			return nil
		}
		if n < batch {
			nap()
		}
	}
}

// carry carries on as many bytes as the records' packets have for a payload.
func (s *datagrams) carry(records [][]byte, headers []mmsghdr) error {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	for i, h := range headers {
		record := records[i][:h.n]
		if len(record) < leastLoad || record[0] != recordData {
			s.opened = append(s.opened, bytes.Clone(record))
			continue
		}
		if err := s.to.add(record[recordFront+ip4Header+udpHeader : len(record)-recordBack]); err != nil {
			return err
		}
	}
	return nil
}
