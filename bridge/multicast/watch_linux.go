package multicast

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch calls changed after changes of interfaces and addresses, carrier
// included, until ctx ends; then it returns ctx's error. It also calls it once
// when it has begun to watch, so that nothing is missed between that and an
// earlier look. A change of many addresses may be one call or many.
func Watch(ctx context.Context, changed func()) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("watch the interfaces: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, s.Close)()
	changed()
	for {
		_, _, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil && !errors.Is(err, unix.ENOBUFS): // ENOBUFS: there was more than the socket could hold
			return fmt.Errorf("watch the interfaces: %w", err)
		}
		changed()
	}
}
