package kkdcp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// again is when a datagram without an answer is sent again (RFC 4120, section 7.2.1).
const again = time.Second

// ask asks a KDC.
func (p *proxy) ask(ctx context.Context, k *kdc, request []byte) (answer []byte, err error) {
	if k.proto == "udp" {
		err = p.names.Try(ctx, k.host, func(addrs []netip.Addr) error {
			answer, err = askAny(ctx, addrs, k.port, request)
			return err
		})
		if err != nil || !saysTooLong(answer) {
			return answer, err
		}
	}
	return p.askTCP(ctx, k, request)
}

// askAny asks the first of the addresses that answers by UDP, each of which gets its
// part of the time.
func askAny(ctx context.Context, addrs []netip.Addr, port string, request []byte) (answer []byte, err error) {
	end, _ := ctx.Deadline()
	for i, a := range addrs {
		one, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(addrs)-i))
		answer, err = askUDP(one, net.JoinHostPort(a.String(), port), request)
		cancel()
		if err == nil {
			return answer, nil
		}
	}
	return nil, err
}

// askUDP sends a request until there is an answer.
func askUDP(ctx context.Context, address string, request []byte) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	b := make([]byte, maxMessage+1)
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		conn.SetReadDeadline(time.Now().Add(again))
		for {
			n, err := conn.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil && ctx.Err() == nil {
				return nil, err
			}
			if err != nil {
				return nil, ctx.Err()
			}
			if n <= maxMessage && isAnswer(b[:n]) {
				return b[:n], nil
			}
		}
	}
	return nil, ctx.Err()
}

// askTCP makes a connection for a request.
func (p *proxy) askTCP(ctx context.Context, k *kdc, request []byte) ([]byte, error) {
	conn, err := p.names.Dial(ctx, "tcp", net.JoinHostPort(k.host, k.port))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answer, err := exchange(conn, request)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer, err
}

// exchange says a request on a stream and reads the answer (RFC 4120, section 7.2.2).
func exchange(conn io.ReadWriter, request []byte) ([]byte, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)); err != nil {
		return nil, err
	}
	var head [length]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return nil, errAnswer
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(conn, b); err != nil {
		return nil, err
	}
	if !isAnswer(b) {
		return nil, errAnswer
	}
	return b, nil
}
