//go:build !linux

package multicast

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// openSender makes the socket of a source.
func openSender(src Source) (c *net.UDPConn, port fixedPort, buffer int, err error) {
	addr := src.Addr
	if addr.IsLinkLocalUnicast() && addr.Is6() {
		// A number, since package net remembers which name was which index.
		addr = addr.WithZone(strconv.Itoa(src.Index))
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if src.Binding.Fragment {
			return nil
		}
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = forbidFragments(fd, src.Binding.IPv6) }), err)
	}}
	p, err := config.ListenPacket(context.Background(), network(src.Binding.IPv6), netip.AddrPortFrom(addr, src.Binding.SourcePort).String())
	if err != nil {
		return nil, port, 0, err
	}
	c = p.(*net.UDPConn)
	if err := c.SetWriteBuffer(sendBuffer); err != nil {
		c.Close()
		return nil, port, 0, err
	}
	return c, port, sendBuffer, nil
}

// dropInbound does nothing: there is no such filter here, so what strangers send to
// the source port fills the receive buffer and is dropped from then on.
func (s *Sender) dropInbound() error { return nil }

// pinHosts has datagrams to hosts leave by the interface alone, whatever the routes say.
func (s *Sender) pinHosts() error {
	return s.control(func(fd uintptr) error { return pinHosts(fd, s.source.Binding.IPv6, s.source.Index) })
}

// setBroadcast sets SO_BROADCAST.
func (s *Sender) setBroadcast(on bool) error {
	value := 0
	if on {
		value = 1
	}
	return s.control(func(fd uintptr) error { return setBroadcast(fd, value) })
}

func (s *Sender) control(set func(fd uintptr) error) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = set(fd) }); err != nil {
		return err
	}
	return failed
}

// fixedPort: a fixed source port is the sender's alone here.
type fixedPort struct{ shared bool }

func (fixedPort) release() {}

func (s *Sender) connect() error { return nil }

// senderConn is the socket of a sender.
type senderConn = *net.UDPConn

func (s *Sender) leavePoller() error { return nil }

// pollable gives the socket as a connection that can be waited for, until release is called.
func (s *Sender) pollable() (conn *net.UDPConn, release func(), err error) {
	return s.conn, func() {}, nil
}

// SharePort does nothing here: a fixed source port is the sender's alone.
func (s *Sender) SharePort() error { return nil }

// Unclaimed is not known here.
func (s *Sender) Unclaimed() (uint64, error) { return 0, errors.ErrUnsupported }

// setFragment does nothing: a socket whose datagrams may be fragmented always lets them.
func (s *Sender) setFragment(bool) error { return nil }

// icmpErrors: only Linux reports ICMP errors to a socket that is not connected.
func (s *Sender) icmpErrors() func(error) (may, is bool) { return nil }

// errorTaker: likewise.
func (s *Sender) errorTaker() func() bool { return nil }

// hostErrors: there are none.
type hostErrors struct{}

func (hostErrors) take() []HostError { return nil }

// canSegment: UDP_SEGMENT is Linux's.
func canSegment(*net.UDPConn) error { return errNoSegments }

// setSegment is never reached, since canSegment says so.
func setSegment([]byte, int) []byte { return nil }

const segmentSpace = 0

// network is what package net calls UDP of one family. It is always named:
// plain "udp" may give a socket of both.
func network(v6 bool) string {
	if v6 {
		return "udp6"
	}
	return "udp4"
}
