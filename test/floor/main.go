package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// What the server measured beside it has too: mainproc/server.go, roles.go.
const poolSize = 8

var workerEnv = []string{"GOMAXPROCS=1", "GOGC=off"}

const (
	workerArg = "__worker"
	pairFD    = 3 // the worker's end of its pair
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == workerArg:
		err = work()
	case len(os.Args) == 2:
		err = serve(os.Args[1])
	default:
		err = errors.New("usage: floor ADDR:PORT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// server is the first process.
type server struct {
	key  *ecdsa.PrivateKey
	cert []byte // DER
	pool chan *net.UnixConn
}

func serve(addr string) error {
	s := &server{pool: make(chan *net.UnixConn, poolSize)}
	var err error
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "floor"}, DNSNames: []string{"floor.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	if s.cert, err = x509.CreateCertificate(rand.Reader, about, about, s.key.Public(), s.key); err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	for range max(runtime.NumCPU(), 2) { // so many are started at once
		go func() {
			for {
				w, err := start()
				if err != nil {
					failed <- err
					return
				}
				s.pool <- w
			}
		}()
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				failed <- err
				return
			}
			go s.give(c.(*net.TCPConn))
		}
	}()
	key, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return err
	}
	pin := sha256.Sum256(key)
	fmt.Println("ready", "pin-sha256:"+base64.StdEncoding.EncodeToString(pin[:]))
	return <-failed
}

// start starts a worker and waits until it is there.
func start() (*net.UnixConn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	far := os.NewFile(uintptr(pair[1]), "pair")
	defer far.Close()
	w, err := unixConn(pair[0])
	if err != nil {
		return nil, err
	}
	p, err := os.StartProcess("/proc/self/exe", []string{"floor", workerArg}, &os.ProcAttr{
		Env: workerEnv, Files: []*os.File{nil, nil, os.Stderr, far},
	})
	if err != nil {
		return nil, err
	}
	go p.Wait()
	_, err = w.Read(make([]byte, 1))
	return w, err
}

// unixConn takes over a descriptor.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "pair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%v is no Unix socket", c.LocalAddr())
	}
	return u, nil
}

// give gives a connection to a worker and signs for it.
func (s *server) give(c *net.TCPConn) {
	w := <-s.pool
	defer w.Close()
	f, err := c.File()
	c.Close()
	if err != nil {
		return
	}
	_, _, err = w.WriteMsgUnix(s.cert, unix.UnixRights(int(f.Fd())), nil)
	f.Close()
	if err != nil {
		return
	}
	digest := make([]byte, 64)
	for {
		n, err := w.Read(digest)
		if err != nil || n == 0 {
			return
		}
		signature, err := ecdsa.SignASN1(rand.Reader, s.key, digest[:n])
		if err != nil {
			return
		}
		if _, err := w.Write(signature); err != nil {
			return
		}
	}
}
