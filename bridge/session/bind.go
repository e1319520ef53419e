package session

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// bindTo has a dialer leave from an address of this host, or by an interface; "": as the routes say.
func bindTo(d *net.Dialer, to string) {
	if to == "" {
		return
	}
	if a, err := netip.ParseAddr(to); err == nil {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		return
	}
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = bindToInterface(fd, to) }); e != nil {
			return e
		}
		if err != nil {
			return &causeError{what: fmt.Sprintf("cannot leave by the interface %q of broker.bind: %v", to, err), hint: "ip link lists the interfaces of this host", err: err}
		}
		return nil
	}
}
