package netstack

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"rocserv/netstack/stacktest"
)

// kinds runs a test over both families and both kinds of streams.
func kinds(t *testing.T, test func(t *testing.T, o rigOptions, dst string)) {
	for family := range families4and6 {
		for _, sockets := range []bool{false, true} {
			kind := "memory"
			if sockets {
				kind = "sockets"
			}
			t.Run(family+"/"+kind, func(t *testing.T) { test(t, rigOptions{sockets: sockets}, family) })
		}
	}
}

func TestDownload(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		r := newRig(t, o)
		dst := port(families4and6[family], 80)
		const n = 3<<20 + 17
		r.network.Serve(dst, stacktest.Source(1, n))
		c := r.dial(dst)
		got, m, err := stacktest.Checksum(c)
		if err != nil || m != n {
			t.Fatalf("read %d bytes, %v", m, err)
		}
		if want, _, _ := stacktest.Checksum(io.LimitReader(stacktest.Stream(1), n)); got != want {
			t.Error("bytes differ")
		}
	})
}

func TestUpload(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		r := newRig(t, o)
		dst := port(families4and6[family], 80)
		const n = 3<<20 + 17
		r.network.Serve(dst, stacktest.Sum)
		c := r.dial(dst)
		if _, err := io.Copy(c, io.LimitReader(stacktest.Stream(2), n)); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		if want, _, _ := stacktest.Checksum(io.LimitReader(stacktest.Stream(2), n)); !bytes.Equal(got, want[:]) {
			t.Errorf("sum %x, want %x", got, want)
		}
	})
}

func TestManyFlowsBothWays(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		r := newRig(t, o)
		dst := port(families4and6[family], 7)
		r.network.Serve(dst, stacktest.Echo)
		errs := make(chan error)
		const flows, n = 20, 200 << 10
		for i := range flows {
			go func() { errs <- echo(r, dst.String(), uint64(i), n) }()
		}
		for range flows {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

func echo(r *rig, name string, seed uint64, n int64) error {
	c, err := r.tryDial(mustAddrPort(name))
	if err != nil {
		return err
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, io.LimitReader(stacktest.Stream(seed), n))
		c.CloseWrite()
		sent <- err
	}()
	got, m, err := stacktest.Checksum(c)
	if err != nil || m != n {
		return fmt.Errorf("echoed %d of %d bytes: %v", m, n, err)
	}
	if want, _, _ := stacktest.Checksum(io.LimitReader(stacktest.Stream(seed), n)); got != want {
		return fmt.Errorf("flow %d: bytes differ", seed)
	}
	return <-sent
}

// TestLossyTunnel: packets are lost in both directions.
func TestLossyTunnel(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		// Each direction loses every 41st packet with data in it, so that both
		// sides have something to send again.
		var data [2]atomic.Uint64
		o.drop = func(up bool, p []byte) bool {
			n := &data[0]
			if up {
				n = &data[1]
			}
			return len(p) > 500 && n.Add(1)%41 == 0
		}
		r := newRig(t, o)
		dst := port(families4and6[family], 7)
		r.network.Serve(dst, stacktest.Echo)
		if err := echo(r, dst.String(), 1, 256<<10); err != nil {
			t.Error(err)
		}
		s := r.stack.Stats().TCP
		if s.Retransmits == 0 {
			t.Error("nothing was lost")
		}
		if s.Recovery.Resent == 0 || s.Recovery.Given != 0 {
			t.Errorf("recovery sent %d packets again and gave %d flows back", s.Recovery.Resent, s.Recovery.Given)
		}
	})
}
