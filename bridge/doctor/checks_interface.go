package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"topicast/bridge/multicast"
)

// The checks of the interface and of the source, which are resolved as run does: their texts are
// those of package multicast.

func checkInterface(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.On.Index == 0 {
		if keys := s.among(h); errors.Is(s.Err, multicast.ErrAmbiguous) && s.Interface != "" && keys != "" {
			return one(s.finding(NoInterface, "write "+keys+" in its place, whichever the network is at", s.Err.Error())), true
		}
		if errors.Is(s.Err, multicast.ErrNoInterface) || s.Interface != "" && !errors.Is(s.Err, multicast.ErrMisplaced) && !s.Wanted.IsValid() {
			return one(s.finding(NoInterface, "topicast interfaces lists what there is: name one of them, or bring the interface up", s.Err.Error())), true
		}
		return nil, false
	}
	if s.Send {
		return nil, true
	}
	on := s.On
	switch {
	case on.HeardOn != "":
		return one(s.finding(BridgePort, "write interface: "+on.HeardOn, on.CanReceive().Error(), fmt.Sprintf("%s has the master %s (%s)", on.Name, on.Master, on.MasterKind))), true
	case on.VRF:
		if n, known := h.Sysctl("ipv4/udp_l3mdev_accept"); known && n == 0 && s.Name == "" {
			return one(s.finding(VRF, "sysctl -w net.ipv4.udp_l3mdev_accept=1, or run the program inside the VRF: ip vrf exec "+on.Master+" PROGRAM",
				fmt.Sprintf("%s belongs to the VRF %s: programs that are not bound to it hear nothing there; topicast is", on.Name, on.Master),
				"net.ipv4.udp_l3mdev_accept is 0")), true
		}
	}
	return nil, true
}

// among are the interfaces that have what was to name one, as the key that names one of them.
func (s *Subject) among(h *Snapshot) string {
	named := func(a multicast.Address) bool { return s.Wanted.IsValid() && s.Wanted.Contains(a.Prefix.Addr()) }
	if s.Interface != "" {
		addr, err := netip.ParseAddr(s.Interface)
		named = func(a multicast.Address) bool {
			return a.Label == s.Interface || err == nil && a.Prefix.Addr() == addr.Unmap()
		}
	}
	var keys []string
	for _, i := range h.Interfaces {
		if slices.ContainsFunc(i.Addresses, named) {
			keys = append(keys, "interface: "+i.Name)
		}
	}
	return strings.Join(keys, " or ")
}

// checkCarrier looks at the link. Of a source the error speaks of its interface already.
func checkCarrier(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	on := s.On
	switch {
	case on.Index == 0:
		return nil, false
	case !on.Up:
		return one(s.finding(InterfaceDown, "ip link set "+on.Name+" up", on.Usable().Error(), "its flag UP is not set", s.meanwhile(h))), true
	case !on.Carrier:
		return one(s.finding(NoCarrier, "look at the cable, the switch's port and the other end; ip link show "+on.Name+" tells NO-CARRIER until then",
			on.Usable().Error()+": nothing leaves by it, and nothing arrives", "its flag LOWER_UP is not set", s.meanwhile(h))), true
	}
	return nil, true
}

// meanwhile is what becomes of what is to be sent by an interface that does not work: what the kernel takes is
// lost, and what topicast has it keeps, or drops, as on_down says.
func (s *Subject) meanwhile(h *Snapshot) string {
	_, after := h.Daemon.sendStatus(s.Name)
	switch {
	case !s.Send:
		return ""
	case s.Name == "" && s.On.Up: // of one that is down the kernel refuses it
		return "what programs send by it all the same the kernel takes, and it is lost"
	case after != nil && after.WaitingMemory+after.WaitingDisk > 0:
		return fmt.Sprintf("messages of %s wait until it works, %d in memory and %d on disk: topicast sends them then", s.Of, after.WaitingMemory, after.WaitingDisk)
	case s.Name != "":
		return "what comes for " + s.Of + " meanwhile waits or is dropped, as on_down of the rule says"
	}
	return ""
}

// checkFlag looks at IFF_MULTICAST. The loopback interface lacks it, and groups work there.
func checkFlag(s *Subject, _ *Snapshot) (found []Finding, looked bool) {
	if s.On.Index == 0 || s.On.Loopback || !s.group() {
		return nil, false
	}
	if s.Live.Flag || s.proven() {
		return nil, s.Live.Flag
	}
	return one(s.finding(NoMulticastFlag, "ip link set "+s.On.Name+" multicast on",
		fmt.Sprintf("%s is without the flag MULTICAST: the kernel sends and joins all the same, but drivers may set no filter for the group, and other programs leave the interface out", s.On.Name),
		"ip link show "+s.On.Name+" has no MULTICAST")), true
}

// proven reports whether datagrams have reached a socket: what only may be in the way is not.
func (s *Subject) proven() bool {
	taken, _, _ := s.Live.heard(s)
	return taken > 0
}

// arrived reports whether anything for the subject reached a socket or was overheard, of whomever.
func (s *Subject) arrived() bool {
	if taken, others, _ := s.Live.heard(s); taken+others > 0 {
		return true
	}
	if s.Live.Wire == nil {
		return false
	}
	for f := range s.Live.Wire.Flows {
		if !f.Sent && f.To == s.To {
			return true
		}
	}
	return false
}

// checkSource looks at what a send rule is to leave from.
func checkSource(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if !s.Send {
		return nil, false
	}
	if s.Err == nil || errors.Is(s.Err, multicast.ErrNoInterface) || !s.Wanted.IsValid() && s.On.Index != 0 && s.On.Usable() != nil {
		return nil, s.Err == nil
	}
	if s.On.Index != 0 && s.On.Usable() != nil && s.Err.Error() == s.On.Usable().Error() {
		return nil, true // checkCarrier says so
	}
	const list = "topicast interfaces lists the addresses of this network namespace"
	if keys := s.among(h); errors.Is(s.Err, multicast.ErrAmbiguous) && s.Interface == "" && keys != "" {
		return one(s.finding(WrongSource, "write "+keys+" beside source, whichever the network is at", s.Err.Error())), true
	}
	a := s.Wanted.Addr()
	for _, i := range h.Interfaces {
		for _, own := range i.Addresses {
			if s.Wanted.IsValid() && own.Prefix.Addr() == a && i.Index != s.On.Index {
				return one(s.finding(SourceElsewhere, fmt.Sprintf("write interface: %s, or give %s an address of its own: ip addr add %s dev %[2]s", i.Name, nameOf(s), "ADDRESS/LENGTH"),
					s.Err.Error(), fmt.Sprintf("%s is on %s", a, i.Name))), true
			}
			if s.Wanted.IsValid() && own.Prefix.Addr() == a && (own.Tentative || own.Duplicate) {
				return one(s.finding(WrongSource, "ip -6 addr show dev "+i.Name+"; give the other host that has it another address, or wait until the kernel has asked", s.Err.Error())), true
			}
		}
	}
	if s.Wanted.IsValid() && errors.Is(s.Err, multicast.ErrPending) && !errors.Is(s.Err, multicast.ErrAmbiguous) {
		return one(s.finding(SourceElsewhere, list+"; name one of them, or add it: ip addr add "+a.String()+"/LENGTH dev "+nameOf(s),
			s.Err.Error(), fmt.Sprintf("no interface of this network namespace has %s: it may be another host's, or a container's", a))), true
	}
	return one(s.finding(WrongSource, list+": name one of them as source", s.Err.Error())), true
}

func nameOf(s *Subject) string {
	switch {
	case s.On.Name != "":
		return s.On.Name
	case s.Interface != "":
		return s.Interface
	}
	return "INTERFACE"
}

// checkRoutes looks at where the routes lead what a rule sends.
func checkRoutes(s *Subject, _ *Snapshot) (found []Finding, looked bool) {
	if !s.Send || s.Err != nil {
		return nil, false
	}
	if s.group() {
		r, is := s.Source.GatewayRoute(s.To.Addr())
		if is && (r.Binding || !r.Gateway.IsValid()) {
			return one(s.finding(GatewayRoute, r.Removal(), r.Diversion(), "ip route get "+s.To.Addr().String()+" from "+s.Source.Addr.String()+" oif "+s.Source.Interface)), true
		}
		return nil, true // of other routes SO_DONTROUTE keeps it
	}
	if s.Said != nil && s.Said.Key == "host" {
		return one(s.finding(NoRoute, s.Said.Hint, s.Said.Text, "ip route get "+s.To.Addr().String()+" oif "+s.Source.Interface)), true
	}
	return nil, true
}

func checkTTL(s *Subject, _ *Snapshot) (found []Finding, looked bool) {
	if !s.Send || s.Err != nil {
		return nil, false
	}
	if s.Said != nil && s.Said.Key == "ttl" {
		return one(s.finding(TTL, s.Said.Hint, s.Said.Text, "the ttl is "+fmt.Sprint(s.TTL))), true
	}
	return nil, true
}

// out is a datagram of the subject as it leaves, in one as it comes in.
func (s *Subject) out() Packet {
	p := Packet{IPv6: s.To.Addr().Is6(), Protocol: "udp", From: s.Source.Addr, To: s.To.Addr(), Port: s.To.Port(), FromPort: s.Source.Binding.SourcePort, Out: s.On.Name}
	if !s.Exact && s.Groups.IsValid() {
		p.Groups = s.Groups.String()
	}
	return p
}

func (s *Subject) in(from netip.Addr) Packet {
	p := Packet{IPv6: s.To.Addr().Is6(), Protocol: "udp", From: from, To: s.To.Addr(), Port: s.To.Port(), Own: s.To.Addr().IsUnspecified(), In: s.On.Name}
	for _, own := range s.On.Addresses { // what comes to this host comes to one of them
		if p.To.IsUnspecified() && own.Prefix.Addr().Is6() == p.IPv6 {
			p.To = own.Prefix.Addr()
		}
	}
	return p
}
