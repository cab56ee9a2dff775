package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Crowd is many strangers who connect by TCP and do not get on with it. A
// connection that ends is made again.
type Crowd struct {
	To   string
	From []string // source addresses, taken in turn
	// Silent ones say nothing. Brief ones send the first byte of a TLS record
	// and no more. Slow ones send such a record by a byte a second.
	Silent, Brief, Slow int
}

// StartCrowd starts it and waits until all have tried to connect.
func StartCrowd(n Netns, c Crowd) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	q, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	p, err := n.Start("crowd", strings.NewReader(string(q)), []string{roleVariable + "=" + roleCrowd}, self)
	if err != nil {
		return nil, err
	}
	_, err = p.Expect(`^all came$`, 30*time.Second)
	return p, err
}

// crowd is the role.
func crowd(in io.Reader, out io.Writer) error {
	var c Crowd
	if err := json.NewDecoder(in).Decode(&c); err != nil {
		return err
	}
	all := c.Silent + c.Brief + c.Slow
	var came atomic.Int64
	done := make(chan struct{})
	dials := make(chan struct{}, 1000) // under way
	for i := range all {
		from, err := netip.ParseAddr(c.From[i%len(c.From)])
		if err != nil {
			return err
		}
		go func() {
			for first := true; ; first = false {
				dials <- struct{}{}
				conn := c.dial(from)
				<-dials
				if first && came.Add(1) == int64(all) {
					close(done)
				}
				if conn != nil {
					c.behave(i, conn)
					conn.Close()
				}
				time.Sleep(time.Second)
			}
		}()
	}
	<-done
	fmt.Fprintln(out, "all came")
	select {}
}

func (c Crowd) dial(from netip.Addr) net.Conn {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: 2 * time.Second, KeepAlive: -1}
	conn, err := d.Dial("tcp", c.To)
	if err != nil {
		return nil
	}
	return conn
}

// behave does what stranger i does until its connection ends.
func (c Crowd) behave(i int, conn net.Conn) {
	record := []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	switch {
	case i < c.Silent:
	case i < c.Silent+c.Brief:
		conn.Write(record[:1])
	default:
		go func() {
			for _, b := range append(record, make([]byte, 500)...) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
	}
	io.Copy(io.Discard, conn)
}
