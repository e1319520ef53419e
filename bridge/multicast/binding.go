package multicast

import (
	"fmt"
	"net/netip"
)

// Binding says which local end a sender is to have. It is comparable.
type Binding struct {
	Source     netip.Prefix // address to leave from, or a prefix that picks one; the zero Prefix takes the interface's own choice (see Resolve)
	Interface  string       // name of the interface to leave from; "" takes the one that owns Source
	SourcePort uint16       // UDP source port; 0 lets the kernel choose
	TTL        uint8        // 1 to 255; IPv6: the hop limit
	Loopback   bool         // whether programs on this host hear the datagrams too
	DSCP       uint8        // 0 to 63 (RFC 2474)
	IPv6       bool         // the address family of the targets
	Host       bool         // the targets are hosts, and no groups
	Answers    string       // whom what comes back is for (Sender.Receive); "": nobody, and it is dropped. It tells sockets apart
	Fragment   bool         // whether a datagram above the interface's MTU leaves in IP fragments; else it fails with ErrTooLong
}

// Source is a Binding found on this host: the exact address and interface that
// datagrams leave from.
type Source struct {
	Binding   Binding
	Interface string
	Index     int        // of the interface; a recreated interface has another
	Addr      netip.Addr // without a zone: the interface is Index
	MTU       int        // of the interface, in bytes, IP header included
	VRF       string     // that the interface is a member of; "" is none
	Queue     string     // that cuts segmented sends up, if there is one: see Interface and Sender.SetQueue
}

// Same reports whether a socket opened for s serves for t too: only their queues may
// differ.
func (s Source) Same(t Source) bool {
	s.Queue = t.Queue
	return s == t
}

// String returns "172.17.0.1 on iso0", with the source port if it is fixed.
func (s Source) String() string {
	if s.Binding.SourcePort != 0 {
		return fmt.Sprintf("%s on %s", netip.AddrPortFrom(s.Addr, s.Binding.SourcePort), s.Interface)
	}
	return fmt.Sprintf("%s on %s", s.Addr, s.Interface)
}

// check refuses what no host can ever satisfy.
func (b Binding) check() error {
	switch {
	case b.TTL == 0:
		// TTL 0 does not keep a datagram on the host: Linux lets it leave unless
		// the host itself is a member on the interface.
		return fmt.Errorf("ttl 0: give 1 (this network only) to 255")
	case b.DSCP > 63:
		return fmt.Errorf("dscp %d: give 0 to 63", b.DSCP)
	case b.Interface == "" && !b.Source.IsValid():
		return fmt.Errorf("neither source nor interface: name at least one, it is never guessed")
	case !b.Source.IsValid():
		return nil
	}
	a, ok := b.exact()
	switch {
	case b.Source.Addr().Is4In6():
		return fmt.Errorf("source %s: write it as %s", b.Source.Addr(), b.Source.Addr().Unmap())
	case b.Source.Addr().Is6() != b.IPv6:
		return fmt.Errorf("source %s is %s, but the groups are %s", b.sourceText(), family(!b.IPv6), family(b.IPv6))
	case b.Source.Addr().IsMulticast():
		return fmt.Errorf("source %s is a group, not an address of an interface", b.sourceText())
	case !ok:
		return nil
	case a.IsUnspecified():
		// The kernel would take it, and choose the source by the routes.
		return fmt.Errorf("source %s is no address: name the one to send from", a)
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("source %s is the broadcast address, not one of an interface", a)
	}
	return nil
}

// exact returns the one address that Source names. A Source with host bits is
// one too: 172.17.0.1/16 is how an interface's address is commonly written.
func (b Binding) exact() (netip.Addr, bool) {
	p := b.Source
	return p.Addr(), p.IsValid() && (p.IsSingleIP() || p != p.Masked())
}

// sourceText is Source as a person would write it.
func (b Binding) sourceText() string {
	if a, ok := b.exact(); ok {
		return a.String()
	}
	return b.Source.String()
}

func family(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}
