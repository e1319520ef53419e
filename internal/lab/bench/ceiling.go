//go:build linux

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"golang.org/x/sys/unix"

	"topicast/internal/lab/harness"
)

// The modes of the ceiling: the least that a program can do that reads MQTT and
// sends datagrams, or the reverse.
const (
	modeMmsg    = "mmsg"    // the datagrams of a read by one sendmmsg, in their order
	modeSegment = "segment" // runs of equal size as one segmented send
	modeBucket  = "bucket"  // the same with a socket for each group
	modeReceive = "receive" // recvmmsg, and one write a batch
)

func runCeiling(j job) error {
	if j.Mode == modeReceive {
		return ceilingReceive(j)
	}
	out, err := newBuckets(j)
	if err != nil {
		return err
	}
	conn, err := dialMQTT(j.Broker, "ceiling")
	if err != nil {
		return err
	}
	if err := conn.Subscribe("dev/#", j.QoS); err != nil {
		return err
	}
	return ceilingSend(conn.Conn, out)
}

// dialMQTT connects a client with a broker.
func dialMQTT(broker, clientID string) (*harness.Client, error) {
	conn, err := net.Dial("tcp4", broker)
	if err != nil {
		return nil, err
	}
	return harness.Connect(conn, clientID, true)
}

// ceilingSend sends what one read brought before it reads again: no queue, and
// nothing is copied but what was read of an unfinished frame.
func ceilingSend(conn net.Conn, out *buckets) error {
	return readFrames(conn, func(f frame, acks []byte) ([]byte, error) {
		if f.kind() != packets.Publish {
			return acks, nil
		}
		m, err := f.message(new(dialect))
		if err != nil {
			return acks, err
		}
		if m.qos == 1 {
			acks = appendPuback(acks, m.id)
		}
		return acks, out.add(m)
	}, out.flush)
}

// buckets sends messages to their groups: by one socket in the order they came,
// or by a socket for each group, one group after the other.
type buckets struct {
	traffic
	groups  []*unix.RawSockaddrInet4 // nil where the socket is connected
	sockets []int                    // one, or one for each group
	out     *outbox
	waiting [][][]byte // payloads, by group; nil with one socket
	live    []int      // groups that have some
}

func newBuckets(j job) (*buckets, error) {
	b := &buckets{traffic: j.traffic, groups: make([]*unix.RawSockaddrInet4, j.Groups), sockets: make([]int, 1)}
	if j.Mode == modeBucket {
		b.sockets = make([]int, j.Groups)
		b.waiting = make([][][]byte, j.Groups)
	}
	connected := len(b.sockets) == j.Groups
	for i := range b.sockets {
		var group netip.AddrPort
		if connected {
			group = j.group(i)
		}
		var err error
		if b.sockets[i], err = sendSocket(j.source(i), group); err != nil {
			return nil, err
		}
	}
	for i := range b.groups {
		if !connected {
			b.groups[i] = rawAddr(j.group(i))
		}
	}
	b.out = newOutbox(b.sockets[0], j.Mode != modeMmsg)
	return b, nil
}

func (b *buckets) add(m message) error {
	g := 0
	if b.Groups > 1 {
		g = b.streamOf(m.topic)
	}
	if b.waiting == nil {
		return b.out.add(m.payload, b.groups[g])
	}
	if len(b.waiting[g]) == 0 {
		b.live = append(b.live, g)
	}
	b.waiting[g] = append(b.waiting[g], m.payload)
	return nil
}

func (b *buckets) flush() error {
	for _, g := range b.live {
		b.out.fd = b.sockets[g]
		for _, p := range b.waiting[g] {
			if err := b.out.add(p, nil); err != nil {
				return err
			}
		}
		if err := b.out.flush(); err != nil {
			return err
		}
		b.waiting[g] = b.waiting[g][:0]
	}
	b.live = b.live[:0]
	return b.out.flush()
}

// ceilingReceive publishes the datagrams of one recvmmsg with one write.
func ceilingReceive(j job) error {
	const buffer, batch = 8 << 20, 64
	fd, err := receiveSocket(j.traffic, netip.MustParseAddr(gatewayAddr), buffer)
	if err != nil {
		return err
	}
	conn, err := dialMQTT(j.Broker, "ceiling")
	if err != nil {
		return err
	}
	acks := newAckCount(conn.Conn)
	in := newInbox(fd, batch)
	out := make([]byte, 0, batch*(largest+64))
	for id := int64(0); ; {
		n, err := in.read()
		if err != nil {
			return err
		}
		out = out[:0]
		for i := range n {
			payload := in.payload(i)
			id++
			out = new(dialect).appendPublish(out, receiveTopic, j.QoS, uint16(id%0xffff+1), len(payload))
			out = append(out, payload...)
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
		if j.QoS > 0 {
			acks.await(id - 0xffff + batch) // an identifier is free again once it is acknowledged
		}
	}
}

// ackCount counts the acknowledgements of a connection.
type ackCount struct {
	n        atomic.Int64
	progress chan struct{}
}

// newAckCount reads the connection until its end, which is the program's too.
func newAckCount(conn net.Conn) *ackCount {
	a := &ackCount{progress: make(chan struct{}, 1)}
	go func() {
		err := readFrames(conn, func(f frame, answer []byte) ([]byte, error) {
			if f.kind() == packets.Puback {
				a.n.Add(1)
				select {
				case a.progress <- struct{}{}:
				default:
				}
			}
			return answer, nil
		}, nil)
		fmt.Fprintln(os.Stderr, "ceiling:", err)
		os.Exit(1)
	}()
	return a
}

// await waits until there were at least n.
func (a *ackCount) await(n int64) {
	for a.n.Load() < n {
		<-a.progress
	}
}
