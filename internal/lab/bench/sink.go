//go:build linux

package main

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// takeMessages is a broker for one client that counts what is published to it.
func takeMessages(j job, orders <-chan order) error {
	accepted, err := accept(j)
	if err != nil {
		return err
	}
	// TCP drops nothing.
	c := newCollector(j.traffic, orders, func() int { return 0 }, emit)
	speaks := new(dialect)
	conn := &stepping{Conn: accepted, collector: c}
	err = readFrames(conn, func(f frame, answer []byte) ([]byte, error) {
		if f.kind() == packets.Publish {
			m, err := f.message(speaks)
			if err != nil {
				return answer, err
			}
			c.note(m.payload, conn.readAt)
		}
		return speaks.appendAnswer(answer, f)
	}, nil)
	if errors.Is(err, errOver) {
		return nil
	}
	return err
}

// stepping lets the collector step between two reads of a connection, and at
// the latest after a while.
type stepping struct {
	net.Conn
	collector *collector
	readAt    int64 // when the last read returned, in nanoseconds since 1970
}

var errOver = errors.New("no more orders")

func (s *stepping) Read(b []byte) (int, error) {
	const interval = 50 * time.Millisecond
	for {
		now := time.Now()
		s.collector.step(now.UnixNano())
		if s.collector.ended {
			return 0, errOver
		}
		if err := s.SetReadDeadline(now.Add(interval)); err != nil {
			return 0, err
		}
		n, err := s.Conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			s.readAt = time.Now().UnixNano()
			return n, err
		}
	}
}
