package multicast

import (
	"net"
	"syscall"

	"golang.org/x/net/ipv4"
)

// x/net has no WriteBatch and ReadBatch for Windows, so here datagrams go one a
// call, and calls wait: for room in the send buffer, and for a datagram.

func (s *Sender) writer() func([]ipv4.Message) (int, error) {
	return func(ms []ipv4.Message) (int, error) {
		if _, err := s.conn.WriteTo(ms[0].Buffers[0], ms[0].Addr); err != nil {
			return 0, err
		}
		return 1, nil
	}
}

func (r *Receiver) reader(packetConn) func([]ipv4.Message) (int, error) {
	return func(ms []ipv4.Message) (int, error) {
		n, from, err := r.conn.ReadFromUDP(ms[0].Buffers[0])
		if err != nil {
			return 0, err
		}
		ms[0].N, ms[0].NN, ms[0].Addr = n, 0, from
		return 1, nil
	}
}

func writable(*net.UDPConn) error    { return nil }
func readable(syscall.RawConn) error { return nil }

// canMark: nor has x/net control messages for Windows.
const canMark = false
