package multicast

import (
	"fmt"
	"io"
	"net"
	"net/netip"
)

// A Sight is what a packet socket sees of IP on its interface.
type Sight int

const (
	// SightArriving is what comes in for anybody to hear: datagrams to groups and broadcast
	// addresses, those to this host below the ephemeral ports, and membership reports.
	SightArriving Sight = iota
	// SightPassing is all datagrams of UDP that come in for this host, or leave it, and
	// membership reports and queries.
	SightPassing
	// SightReports is membership reports and queries alone, those of this host too.
	SightReports
)

// JoinOnly joins a group without receiving anything: so that a switch with IGMP snooping
// hands it on, for a caller that reads it in another way (PacketSocket). Closing leaves it.
func JoinOnly(group netip.Addr, on Interface) (io.Closer, error) {
	c, err := newUnbound(group.Is6())
	if err == nil {
		err = newPacketConn(c, group.Is6()).JoinGroup(&net.Interface{Index: on.Index, Name: on.Name}, &net.UDPAddr{IP: group.AsSlice()})
		if err == nil {
			return c, nil
		}
		c.Close()
	}
	if noFamily(err) {
		err = fmt.Errorf("%w: %w", ErrNoFamily, err)
	}
	return nil, fmt.Errorf("join %s on %s: %w", group, on.Name, err)
}
