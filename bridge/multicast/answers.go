package multicast

import (
	"errors"
	"fmt"
	"net"
)

// What comes back to the port that a sender sends from is read where its Binding says whom it is
// for. It is read as a Receiver reads, from the sender's own socket: what came by another
// interface is left out, but for lo, by which programs of this host answer.

// enableReceive prepares the socket for Receive.
func (s *Sender) enableReceive() error {
	conn, _, err := s.pollable()
	if err != nil {
		return err
	}
	r := &Receiver{group: s.local, on: net.Interface{Index: s.source.Index, Name: s.source.Interface}, conn: conn, answers: true}
	if r.raw, err = conn.SyscallConn(); err != nil {
		return err
	}
	if err := s.ip.markArrivals(); err != nil && canMark {
		return option("PKTINFO", err)
	}
	r.init(r, s.ip)
	s.answers = r
	return nil
}

// Receive waits for what comes back to the sender's port, and returns it as Receiver.Receive does.
// It returns net.ErrClosed after Close. Only one goroutine may call it at a time. A sender whose
// Binding has no Answers hears nothing.
func (s *Sender) Receive(batch []Datagram) (int, error) {
	if s.answers == nil {
		return 0, fmt.Errorf("receive what comes back to %s: nobody asked for answers: %w", s.local, net.ErrClosed)
	}
	for {
		n, err := s.answers.Receive(batch)
		if err == nil || errors.Is(err, net.ErrClosed) {
			return n, err
		}
		// ICMP errors about what was sent come in place of datagrams, and fill the receive buffer
		// until they are taken out. They say nothing that is believed (icmperrors_linux.go).
		if s.icmpErrorOf == nil {
			return n, err
		}
		may, is := s.icmpErrorOf(err)
		if !may {
			return n, err
		}
		if is {
			s.straysTaken.Store(true)
		}
	}
}
