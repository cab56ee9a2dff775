package egress

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// Classify maps an error of a Network to what the client should be told.
func Classify(err error) Class {
	if errors.Is(err, ErrProhibited) {
		return Prohibited
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return TimedOut
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return Unknown
	}
	switch errno {
	case syscall.ECONNREFUSED:
		return Refused
	case syscall.ENETUNREACH, syscall.EAFNOSUPPORT:
		return NetUnreachable
	case syscall.EHOSTUNREACH, syscall.EHOSTDOWN:
		return HostUnreachable
	case syscall.EACCES, syscall.EPERM:
		return Prohibited
	case syscall.ETIMEDOUT:
		return TimedOut
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EAGAIN:
		return Exhausted
	case syscall.EMSGSIZE:
		return TooBig
	}
	return Unknown
}
