package netlab

import (
	"encoding/binary"
	"net"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// lastMark numbers the marks of all captures apart: two on one interface see
// each other's.
var lastMark atomic.Uint64

// etherMark is an Ethernet type for local experiments (IEEE 802, 9.2.4).
const etherMark = 0x88b5

// Settle waits until everything has arrived that had been sent into the cable
// before the call: it sends a mark through the cable and waits for it. With it
// a test can say that something did not come, without sleeping.
//
// A cable that is down or gone carries nothing, so there is nothing to wait for.
func (c *Capture) Settle() {
	c.t.Helper()
	far := c.host.lab.far(c.host, c.link)
	if far == nil {
		c.t.Fatalf("netlab: %s:%s has no cable", c.host.name, c.dev)
	}
	link, err := c.host.rt.LinkByIndex(c.link)
	if err != nil || link.Attrs().RawFlags&(unix.IFF_UP|unix.IFF_LOWER_UP) != unix.IFF_UP|unix.IFF_LOWER_UP {
		return
	}
	var sent []uint64
	err = far.host.Do(func() error {
		socket, err := packetSocket(far.index, 0)
		if err != nil {
			return err
		}
		defer socket.Close()
		// Frames queue up for each processor apart, so one mark behind each.
		return onEachCPU(func() error {
			mark := lastMark.Add(1)
			sent = append(sent, mark)
			_, err := socket.Write(newMark(mark))
			return err
		})
	})
	if err != nil {
		c.t.Fatalf("netlab: send a mark to %s:%s: %v", c.host.name, c.dev, err)
	}
	arrived := func() bool {
		return !slices.ContainsFunc(sent, func(mark uint64) bool { return !c.marks[mark] })
	}
	if !waitOn(c.changed, arrived) {
		c.t.Fatalf("netlab: %s:%s: the marks did not come through", c.host.name, c.dev)
	}
}

func newMark(n uint64) []byte {
	b := make([]byte, 60) // the least an Ethernet frame can be
	copy(b, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	binary.BigEndian.PutUint16(b[12:], etherMark)
	binary.BigEndian.PutUint64(b[14:], n)
	return b
}

func readMark(b []byte) (n uint64, ok bool) {
	if len(b) < 22 || binary.BigEndian.Uint16(b[12:]) != etherMark {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[14:]), true
}

// onEachCPU runs f on every processor in turn. It is for a locked thread.
func onEachCPU(f func() error) error {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	defer unix.SchedSetaffinity(0, &before)
	for cpu, left := 0, before.Count(); left > 0; cpu++ {
		if !before.IsSet(cpu) {
			continue
		}
		left--
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return os.NewSyscallError("sched_setaffinity", err)
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}
