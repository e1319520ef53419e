package multicast

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watchBuffer is what is asked for as SO_RCVBUF, in bytes. A message about a link
// takes some 4 KiB of it, and hundreds come at once where containers start.
const watchBuffer = 1 << 20

// Watch calls changed after changes of interfaces, addresses, queueing disciplines and
// routes for groups, carrier included, until ctx ends; then it returns ctx's error. The
// calls come one at a time; a change of many addresses may be one call or many.
//
// The first call says that it has begun to watch. Of what was before it knows
// nothing, so Overflow is set: join after that call rather than before.
func Watch(ctx context.Context, changed func(Change)) error {
	if err := watch(ctx, watchBuffer, changed); ctx.Err() == nil {
		return fmt.Errorf("watch the interfaces: %w", err)
	}
	return ctx.Err()
}

func watch(ctx context.Context, buffer int, changed func(Change)) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_TC,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, s.Close)()
	if err := s.SetReceiveBufferSize(buffer, false); err != nil {
		return err
	}
	if err := hearNoOther(s.GetFd()); err != nil {
		return err
	}
	known := make(links)
	c := Change{Overflow: true}
	for {
		if c.Overflow {
			if err := known.look(&c); err != nil {
				return err
			}
		}
		changed(c)
		messages, _, err := s.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS): // there was more than the socket could hold
			c = Change{}
			if err := known.readQueued(s, &c); err != nil {
				return err
			}
			c.Overflow = true
		case errors.Is(err, syscall.EINTR):
			c = Change{}
		case err != nil:
			return err
		default:
			c = Change{}
			known.read(messages, &c)
		}
	}
}

// maxQueued is how many messages the socket's queue can hold, and more: none takes less
// than 512 bytes of twice watchBuffer.
const maxQueued = 2 * watchBuffer / 512

// readQueued reads what is left in the queue of a socket that was full. Until the queue has
// been empty once the kernel drops all that comes, and does not say so again
// (netlink_overrun and netlink_rcv_wake in net/netlink/af_netlink.c): a look before that would
// be the last that is heard of the interfaces.
func (ls links) readQueued(s *nl.NetlinkSocket, c *Change) error {
	for range maxQueued {
		switch _, _, err := unix.Recvfrom(s.GetFd(), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT); {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		messages, _, err := s.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		default:
			ls.read(messages, c)
		}
	}
	return nil
}

// look notes all interfaces as they are now, and in c what became of them since they were
// seen last.
func (ls links) look(c *Change) error {
	messages, err := dumpLinks()
	if err != nil {
		return err
	}
	gone := maps.Clone(ls)
	for _, m := range messages {
		if len(m) >= unix.SizeofIfInfomsg {
			delete(gone, int(nl.DeserializeIfInfomsg(m).Index))
		}
		ls.readLink(unix.RTM_NEWLINK, m, c)
	}
	for index := range gone {
		ls.lose(index, c)
	}
	return nil
}

func (ls links) read(messages []syscall.NetlinkMessage, c *Change) {
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE, unix.RTM_NEWRULE, unix.RTM_DELRULE:
			c.Routes = true
		}
		ls.readLink(m.Header.Type, m.Data, c)
	}
}

// readLink takes in what a message says of a link, if it is about one.
func (ls links) readLink(kind uint16, message []byte, c *Change) {
	// AF_BRIDGE: a deleted one has only left its bridge (rtnetlink(7), ifinfomsg).
	if kind != unix.RTM_NEWLINK && kind != unix.RTM_DELLINK || len(message) < unix.SizeofIfInfomsg || message[0] != unix.AF_UNSPEC {
		return
	}
	info := nl.DeserializeIfInfomsg(message)
	if kind == unix.RTM_DELLINK {
		ls.lose(int(info.Index), c)
		return
	}
	now := link{works: info.Flags&unix.IFF_UP != 0 && carrier(info.Flags)}
	attributes, err := nl.ParseRouteAttr(message[unix.SizeofIfInfomsg:])
	if err != nil {
		attributes = nil
	}
	for _, a := range attributes {
		// Since Linux 4.16. A carrier that was away for a moment shows in nothing else.
		if a.Attr.Type == unix.IFLA_CARRIER_UP_COUNT && len(a.Value) == 4 {
			now.ups = binary.NativeEndian.Uint32(a.Value)
		}
	}
	ls.see(int(info.Index), now, c)
}
