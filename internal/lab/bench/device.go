//go:build linux

package main

import (
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// listenToGroups is the device that counts what the bridge sends.
func listenToGroups(j job, orders <-chan order) error {
	const buffer = 256 << 20 // it is not the device that is to lose anything
	runtime.LockOSThread()
	fd, err := receiveSocket(j.traffic, netip.MustParseAddr(deviceAddr), buffer)
	if err != nil {
		return err
	}
	interval := unix.NsecToTimeval(int64(50 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &interval); err != nil {
		return os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	sources := make([]netip.Addr, j.Groups)
	for i := range sources {
		sources[i] = j.source(i)
	}
	c := newCollector(j.traffic, orders, func() int { return int(netlab.SocketDrops(fd)) }, emit)
	in := newInbox(fd, readAtOnce)
	emit(event{Event: ready})
	for !c.ended {
		c.step(time.Now().UnixNano())
		n, err := in.read()
		if err != nil {
			return err
		}
		now := time.Now().UnixNano()
		for i := range n {
			payload := in.payload(i)
			// From another address it would be ignored, and so it is here.
			h, ok := readHeader(payload)
			if ok && int(h.stream) < len(sources) && in.from(i) != sources[h.stream] {
				c.wrong()
				continue
			}
			c.note(payload, now)
		}
		if j.Answers && n > 0 {
			if err := in.echo(n); err != nil {
				return err
			}
		}
		if j.Pause && n > 0 && n < readAtOnce {
			time.Sleep(readPause)
		}
	}
	return nil
}

const (
	readAtOnce = 256
	// readPause is how long the device of a flood leaves its socket alone once it is
	// empty. Waiting there it would be woken for one datagram after the other, and
	// over a veth that is on the account of the one who sends them: a quarter of
	// what sending costs, more or less by chance.
	readPause = 200 * time.Microsecond
)

// sendToGroups is the device that sends to the groups the bridge listens to.
func sendToGroups(j job, orders <-chan order) error {
	runtime.LockOSThread()
	b, err := newTalker(j.traffic)
	if err != nil {
		return err
	}
	emit(event{Event: ready})
	tick := time.NewTicker(probing)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := b.probe(); err != nil {
				return err
			}
		case o, ok := <-orders:
			if !ok {
				return nil
			}
			tick.Stop()
			n, err := b.send(o)
			if err != nil {
				return err
			}
			emit(event{Event: sent, Count: n})
		}
	}
}

// A talker sends datagrams at a rate. One group gets runs of equal size, which
// costs little enough to go beyond what any bridge takes.
type talker struct {
	traffic
	out    *outbox
	groups []*unix.RawSockaddrInet4 // nil for one, which the socket is connected to
	store  []byte
}

// most is how many datagrams a talker sends at once.
const most = 64

func newTalker(t traffic) (*talker, error) {
	b := &talker{traffic: t, groups: make([]*unix.RawSockaddrInet4, t.Groups), store: make([]byte, most*largest)}
	var group netip.AddrPort
	if t.Groups == 1 {
		group = t.group(0)
	} else {
		for i := range b.groups {
			b.groups[i] = rawAddr(t.group(i))
		}
	}
	fd, err := sendSocket(netip.MustParseAddr(deviceAddr), group)
	if err != nil {
		return nil, err
	}
	b.out = newOutbox(fd, true)
	return b, nil
}

func (b *talker) probe() error {
	for g := range b.Groups {
		payload := appendPayload(nil, header{probe: true, stream: uint32(g), sent: time.Now().UnixNano()}, headerSize)
		if err := b.out.add(payload, b.groups[g]); err != nil {
			return err
		}
	}
	return b.out.flush()
}

// send sends at the order's rate, for twice the time at most: a rate may be more
// than this machine can do.
func (b *talker) send(o order) (int, error) {
	s, p := newStream(b.traffic, o.Run, new(dialect)), newPace(o)
	for {
		now, n, ok := p.next(s.made)
		if late := time.Duration(now-p.start).Seconds() > 2*o.Seconds; !ok || late {
			return s.made, nil
		}
		for i := range min(n, most) {
			h, size, _ := s.next(now)
			payload := appendPayload(b.store[i*largest:][:0], h, size)
			if err := b.out.add(payload, b.groups[h.stream]); err != nil {
				return s.made, err
			}
		}
		if err := b.out.flush(); err != nil {
			return s.made, err
		}
	}
}
