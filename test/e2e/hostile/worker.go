package hostile

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
	"rocserv/internal/rolelog"
	"rocserv/internal/sandbox"
	"rocserv/worker"
)

// The descriptors main starts a worker with.
const (
	mainFD   = 3
	secModFD = 4
)

// taken is a worker that was taken over.
type taken struct {
	log             *slog.Logger
	main, sec       *ipc.Conn
	mainRaw, secRaw int // the same, for what is no record
	client          *os.File
	sid             []byte     // of the login, from the stage login on
	lease           *ipc.Lease // from the stage tunnel on

	// As of Order.
	beside, behindOther, behind netip.Addr
}

// Main is the worker's process.
func Main(args []string) int {
	order := claim()
	t, err := start(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		return 1
	}
	if order != nil {
		answer := t.try(order)
		if clientCame {
			answer = ClientCame
		}
		t.log.Info("hostile", "attempt", order.Attempt, "answer", answer)
		return 0
	}
	if !t.hasOrder() {
		if err := worker.Serve(worker.Options{Main: t.main, SecMod: t.sec, Log: t.log}); err != nil {
			t.log.Info("connection ended", "err", err)
		}
		return 0
	}
	if err := t.serve(); err != nil {
		t.log.Info("hostile", "err", err)
	}
	return 0
}

// claim takes the order for a worker of the pool, if there is one.
func claim() *Order {
	exe, err := os.Executable()
	if err != nil {
		return nil
	}
	mine := fmt.Sprintf("%s.%d", PooledOrder(exe), os.Getpid())
	if os.Rename(PooledOrder(exe), mine) != nil {
		return nil
	}
	b, err := os.ReadFile(mine)
	o := new(Order)
	if err != nil || json.Unmarshal(b, o) != nil {
		return nil
	}
	return o
}

// PooledOrder is the file with the order for the next worker to start.
func PooledOrder(exe string) string { return filepath.Join(filepath.Dir(exe), "pooled") }

// start does what a worker does until it waits for its client.
func start(args []string) (*taken, error) {
	t := &taken{log: slog.New(rolelog.NewHandler(os.Stderr, slog.LevelDebug))}
	var err error
	if t.mainRaw, err = unix.FcntlInt(mainFD, unix.F_DUPFD_CLOEXEC, 10); err != nil {
		return nil, err
	}
	if t.secRaw, err = unix.FcntlInt(secModFD, unix.F_DUPFD_CLOEXEC, 10); err != nil {
		return nil, err
	}
	if t.main, err = ipc.NewConn(mainFD); err != nil {
		return nil, err
	}
	if t.sec, err = ipc.NewConn(secModFD); err != nil {
		return nil, err
	}
	opts, err := sandbox.ParseArgs(args)
	if err != nil {
		return nil, err
	}
	if _, err := sandbox.Prepare(sandbox.Worker, opts); err != nil {
		return nil, err
	}
	rep, err := sandbox.Confine(sandbox.Worker, opts, sandbox.Files{})
	if err != nil {
		return nil, err
	}
	return t, t.main.Send(ipc.WorkerReadyT, 0, &ipc.WorkerReady{Confinement: "hostile; " + rep.String(), Missing: rep.Missing})
}

// hasOrder waits for WORKER_STARTUP, which it leaves where it is, and looks
// whether the client's first bytes are an order.
func (t *taken) hasOrder() bool {
	poll := []unix.PollFd{{Fd: int32(t.mainRaw), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); err != unix.EINTR {
			break
		}
	}
	oob := make([]byte, 64)
	buf := make([]byte, ipc.MaxRecord)
	n, oobn, _, _, err := unix.Recvmsg(t.mainRaw, buf, oob, unix.MSG_PEEK|unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 || ipc.Type(buf[0]) != ipc.WorkerStartupT {
		return false
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) == 0 {
		return false
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return false
	}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	first := make([]byte, len(Prefix))
	n, _, err = unix.Recvfrom(fds[0], first, unix.MSG_PEEK)
	return err == nil && n == len(Prefix) && string(first) == Prefix
}

// serve takes the order from the client and answers it.
func (t *taken) serve() error {
	rec, err := t.main.Recv()
	if err != nil {
		return err
	}
	fd := rec.TakeFD(0)
	rec.Close()
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	t.client = os.NewFile(uintptr(fd), "client")
	line, err := bufio.NewReader(t.client).ReadString('\n')
	if err != nil {
		return err
	}
	o := new(Order)
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, Prefix)), o); err != nil {
		return err
	}
	answer := t.try(o)
	_, err = fmt.Fprintln(t.client, answer)
	return err
}

// try goes to the order's stage and makes the attempt.
func (t *taken) try(o *Order) string {
	a, ok := find(o.Attempt)
	if !ok {
		return "no such attempt"
	}
	t.beside, t.behindOther, t.behind = o.Beside, o.BehindOther, o.Behind
	if err := t.goTo(o); err != nil {
		return "stage " + o.Stage + ": " + err.Error()
	}
	err := a.do(t, o)
	if stage := new(stageError); errors.As(err, stage) {
		return "stage " + o.Stage + ": " + err.Error()
	}
	if err == nil {
		return In
	}
	return "refused: " + err.Error()
}

// goTo is what an honest worker does up to a stage.
func (t *taken) goTo(o *Order) error {
	if o.Stage == Pooled || o.Stage == Handshake {
		return nil
	}
	if err := t.ask(ipc.SignT, goodText(), ipc.SignRepT, new(ipc.SignRep)); err != nil {
		return err
	}
	rep := new(ipc.AuthReply)
	if err := t.ask(ipc.AuthInitT, &ipc.AuthInit{User: o.User}, ipc.AuthReplyT, rep); err != nil {
		return err
	}
	t.sid = rep.Sid
	if o.Stage == Login {
		return nil
	}
	rep = new(ipc.AuthReply)
	if err := t.ask(ipc.AuthContT, &ipc.AuthCont{Sid: t.sid, Password: []byte(o.Password)}, ipc.AuthReplyT, rep); err != nil {
		return err
	}
	if rep.Status != ipc.AuthStatus_AUTH_OK {
		return fmt.Errorf("login: %v", rep.Status)
	}
	t.sid = rep.Sid
	result, err := t.cookie(t.sid)
	if err == nil && result != ipc.CookieResult_COOKIE_OK {
		err = fmt.Errorf("cookie: %v", result)
	}
	return err
}

// ask is a question to sec-mod.
func (t *taken) ask(q ipc.Type, m ipc.Message, want ipc.Type, rep ipc.Message) error {
	return t.sec.Call(q, m, want, rep)
}

// cookie asks main for a tunnel.
func (t *taken) cookie(sid []byte) (ipc.CookieResult, error) {
	if err := t.main.Send(ipc.AuthCookieReqT, 0, &ipc.AuthCookieReq{Sid: sid, WantIpv4: true}); err != nil {
		return 0, err
	}
	for {
		rec, err := t.main.Recv()
		if err != nil {
			return 0, err
		}
		rep := new(ipc.AuthCookieRep)
		err = rec.Decode(rep)
		rec.Close()
		if rec.Type == ipc.AuthCookieRepT {
			t.lease = rep.Lease
			return rep.Result, err
		}
	}
}

// goodText is what may be signed, once.
func goodText() *ipc.SignReq {
	text := strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00" + strings.Repeat("h", 32)
	return &ipc.SignReq{Scheme: 0x0403, Message: []byte(text)}
}

// record is a record of any type and body.
func record(typ ipc.Type, id uint32, body []byte) []byte {
	b := append([]byte{byte(typ)}, binary.BigEndian.AppendUint32(nil, id)...)
	return append(b, body...)
}

func marshal(m ipc.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// patience is how long an attempt waits for its end before it says that
// nothing happened.
const patience = 8 * time.Second

var errNothing = errors.New("nothing happened")

// ClientCame is the answer of a worker of the pool that main gave a client to in
// the midst of its attempt: it proves nothing and has to be repeated.
const ClientCame = "a client came"

var clientCame bool

// survive waits for the end that must come. It comes from outside.
func survive(fd int) error {
	buf := make([]byte, ipc.MaxRecord)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err == nil && n == 0 {
			time.Sleep(patience) // the channel is closed: now the process must end
			return io.EOF
		}
		clientCame = clientCame || err == nil && ipc.Type(buf[0]) == ipc.WorkerStartupT
	}
	return errNothing
}

// send sends bytes and waits for the end.
func send(fd int, b []byte, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(fd, b, oob, nil, 0); err != nil {
		return err
	}
	return survive(fd)
}
