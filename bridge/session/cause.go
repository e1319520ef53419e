package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"

	"topicast/internal/brokerurl"
)

// Why a connect fails, in words for whoever has to mend it. What the network
// libraries say has the port of this side in it, which differs each time, and it
// seldom says what to do.

// A causeError says what failed, why, and what to do.
type causeError struct {
	what string // what failed, and why: the same each time
	seen string // what can differ each time: an address that a name stands for, the time; "": nothing
	hint string // what to do; "": what says it, or nobody knows
	err  error
}

func (e *causeError) Error() string {
	text := e.what
	if e.seen != "" {
		text += " (" + e.seen + ")"
	}
	if e.hint != "" {
		text += "; " + e.hint
	}
	return text
}

func (e *causeError) Unwrap() error { return e.err }

// eachAddress says why each address of the broker failed.
type eachAddress []error

func (e eachAddress) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e eachAddress) Unwrap() []error { return e }

// causeOf is the text of an error less what can differ each time: two errors with
// one cause have one.
func causeOf(err error) string {
	if all, ok := err.(eachAddress); ok {
		texts := make([]string, len(all))
		for i, e := range all {
			texts[i] = causeOf(e)
		}
		return strings.Join(texts, "; ")
	}
	text := err.Error()
	if e, ok := errors.AsType[*causeError](err); ok && e.seen != "" {
		text = strings.Replace(text, " ("+e.seen+")", "", 1)
	}
	if e, ok := errors.AsType[*ProtocolError](err); ok {
		text = strings.Replace(text, e.seen(), "", 1)
	}
	return withoutPort(text)
}

// localEnd is this side's end of a connection, in what package net says.
var localEnd = regexp.MustCompile(`\S+:\d+->`)

func withoutPort(text string) string { return localEnd.ReplaceAllString(cut(text), "") }

// explain gives words to an error that was met on the way to an address.
func explain(ctx context.Context, u *url.URL, err error) error {
	if ctx.Err() != nil {
		return err // by us
	}
	if _, ok := errors.AsType[*causeError](err); ok {
		return err
	}
	if e, ok := errors.AsType[*errProxy](err); ok {
		return proxyCause(e)
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok && brokerurl.Service(u) != "" { // one for each of its hosts
		return hostsCause(u, all.Unwrap())
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if service := brokerurl.Service(u); service != "" && e.IsNotFound && strings.HasPrefix(e.Name, "_") {
			return &causeError{what: fmt.Sprintf("DNS has no SRV record for %q", e.Name), hint: "write mqtt:// or mqtts:// and the broker's host, or make the record", err: e}
		}
		return nameCause(e)
	}
	if brokerurl.Unix(u) {
		return socketCause(err)
	}
	if e := tlsCause(u, nil, err); e != nil {
		return e
	}
	return dialCause(u, err)
}

// hostsCause is for a name whose SRV records lead to no broker that answers.
func hostsCause(u *url.URL, all []error) error {
	c := &causeError{what: fmt.Sprintf("none of the %d hosts that the SRV records of %s name answers", len(all), u.Hostname()), err: errors.Join(all...)}
	last := all[len(all)-1]
	address, _, _ := strings.Cut(last.Error(), ": ")
	c.seen = "the last, " + address + ": " + explain(context.Background(), &url.URL{Scheme: "mqtt", Host: address}, errors.Unwrap(last)).Error()
	return c
}

// socketHints say what to do about what the kernel says to a connect to a socket in the file system.
var socketHints = []struct {
	errno syscall.Errno
	hint  string
}{
	{syscall.ENOENT, "there is no such socket: check that the broker runs, which makes it, and the path in broker.url"},
	{syscall.ECONNREFUSED, "nothing listens there: the broker has ended, or this is no socket"},
	{syscall.EACCES, "let the user that topicast runs as write to it, and go through the folders above it"},
	{syscall.EPROTOTYPE, "the socket is of another kind than a broker's"},
	{syscall.EAGAIN, "the broker takes no more connections just now"},
}

// socketCause is for a connection to a socket in the file system that did not come about.
func socketCause(err error) error {
	c := &causeError{what: plain(err), err: err}
	for _, h := range socketHints {
		if errors.Is(err, h.errno) {
			c.hint = h.hint
		}
	}
	return c
}

// nameCause is for a name that could not be resolved.
func nameCause(e *net.DNSError) error {
	c := &causeError{err: e}
	if e.Server != "" {
		c.seen = "server " + e.Server
	}
	const server = "check the DNS server of this host (/etc/resolv.conf) and the way to it"
	switch {
	case e.IsNotFound:
		c.what = fmt.Sprintf("DNS has no address for %q", e.Name)
		c.hint = "check the name in broker.url, and whether the DNS server of this host is one that knows it"
	case e.IsTimeout:
		c.what, c.hint = fmt.Sprintf("DNS does not answer when asked for %q", e.Name), server
	default: // SERVFAIL, REFUSED; no way to the server; the words of the C library for any of these
		_, why, ok := strings.Cut(e.Err, "->")
		if !ok {
			why = e.Err
		}
		if i := strings.LastIndex(why, ": "); i >= 0 {
			why = why[i+2:]
		}
		c.what, c.hint = fmt.Sprintf("DNS fails when asked for %q: %s", e.Name, why), server
	}
	return c
}

// proxyCause is for a proxy that cannot be reached, or does not lead to the broker.
func proxyCause(e *errProxy) error {
	c := &causeError{what: fmt.Sprintf("proxy %s: %s", e.proxy, plain(e.err)), hint: e.hint, err: e}
	if e, ok := errors.AsType[*net.DNSError](e.err); ok {
		c.what = fmt.Sprintf("DNS has no address for the proxy %q, or does not answer", e.Name)
	}
	if c.hint == "" {
		c.hint = "check broker.proxy.url, and that the proxy runs"
	}
	return c
}

// errnoHints say what to do about what the kernel says to a TCP connect.
var errnoHints = []struct {
	errno syscall.Errno
	hint  string
}{
	{syscall.ECONNREFUSED, "nothing listens there: check that the broker runs, and the port in broker.url"},
	{syscall.EHOSTUNREACH, "the host does not answer, or a router knows no way to it: check that it is up, and its address"},
	{syscall.ENETUNREACH, "this host has no route to it: check its addresses and routes (ip route get ADDRESS)"},
	{syscall.ENETDOWN, "the interface is down"},
	{syscall.EADDRNOTAVAIL, "this host has no address, or no free port, to connect from"},
	{syscall.EACCES, "something on this host forbids it: check the output chain of its firewall"},
	{syscall.EPERM, "something on this host forbids it: check the output chain of its firewall"},
	{syscall.EMFILE, "this process may open no more files: raise its limit (systemd: LimitNOFILE=)"},
	{syscall.ENFILE, "this host may open no more files: raise fs.file-max"},
	{syscall.ECONNRESET, "something on the way, or the host, ended it"},
}

// dialCause is for a TCP connection that did not come about.
func dialCause(u *url.URL, err error) error {
	c := &causeError{what: plain(err), seen: address(u, err), err: err}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil && errors.Is(err, syscall.EADDRNOTAVAIL) {
		if bound, ok := op.Source.(*net.TCPAddr); ok && bound.Port == 0 {
			c.what, c.hint = fmt.Sprintf("this host has no address %s (broker.bind)", bound.IP), "ip addr lists those that it has"
			return c
		}
	}
	for _, h := range errnoHints {
		if errors.Is(err, h.errno) {
			c.hint = h.hint
			return c
		}
	}
	if timedOut(err) {
		c.what = fmt.Sprintf("no answer within %v", dialTimeout)
		c.hint = "the host is away, or something drops what is sent to it: check the address and the port in broker.url, and firewalls"
	}
	return c
}

// address is the one that was tried, where it is not that of the URL: of a name
// with many, each connect can meet another.
func address(u *url.URL, err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil && op.Addr.String() != u.Host {
		return op.Addr.String()
	}
	return ""
}

// plain is what an error says less the addresses, which package net adds.
func plain(err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return withoutPort(err.Error())
	}
	inner := op.Err
	for {
		if deeper, ok := inner.(*net.OpError); ok {
			inner = deeper.Err
		} else if call, ok := inner.(*os.SyscallError); ok {
			inner = call.Err
		} else {
			break
		}
	}
	return withoutPort(inner.Error())
}
