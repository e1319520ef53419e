package fake

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"topicast/bridge/multicast"
)

// Network is a host whose interfaces and sockets a test writes the script of.
type Network struct {
	Mu            sync.Mutex
	Logging       sync.Mutex
	Present       []multicast.Interface
	InterfacesErr error
	OnOpen        func(multicast.Source) error // called with the lock
	Slow          time.Duration                // how long a call of Send takes
	Probe         multicast.Probe
	ProbeTakes    time.Duration
	Lost          error // what Carrier says of a socket just opened
	openErr       error
	Sockets       []*Socket
	ListenErr     error
	listenErr6    error // for what is IPv6
	receivers     []*Receiver
	Sent          map[string][]string // payloads by group, as they were sent by any socket
	OnListen      func()              // called without the lock
	OnOpened      func(*Socket)       // called with the lock
	Counts        multicast.HostUnclaimed
	Routes        []multicast.GatewayRoute
	Listed        int // how often GatewayRoutes was called
	Room          int // how many datagrams a socket takes until allow is called; 0: plenty
}

func (n *Network) Interfaces() ([]multicast.Interface, error) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	return n.Present, n.InterfacesErr
}

func (n *Network) Open(src multicast.Source) (*Socket, error) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	if n.openErr != nil {
		return nil, n.openErr
	}
	if n.OnOpen != nil {
		if err := n.OnOpen(src); err != nil {
			return nil, err
		}
	}
	s := &Socket{net: n, Src: src, Free: make(chan struct{}, 1), gone: make(chan struct{}), Back: make(chan []multicast.Datagram), Room: 1 << 30, lost: n.Lost}
	if n.Room > 0 {
		s.Room = n.Room
	}
	if n.OnOpened != nil {
		n.OnOpened(s)
	}
	n.Sockets = append(n.Sockets, s)
	return s, nil
}

func (n *Network) Watch(ctx context.Context, changed func(multicast.Change)) error {
	changed(multicast.Change{Overflow: true})
	<-ctx.Done()
	return nil
}

func (n *Network) Listen(o multicast.ReceiverOptions, on multicast.Interface) (*Receiver, error) {
	if n.OnListen != nil {
		n.OnListen()
	}
	n.Mu.Lock()
	defer n.Mu.Unlock()
	if n.listenErr6 != nil && o.Group.Addr().Is6() {
		return nil, n.listenErr6
	}
	if n.ListenErr != nil {
		return nil, n.ListenErr
	}
	r := &Receiver{Options: o, on: on.Name, In: make(chan []multicast.Datagram), Done: make(chan struct{})}
	n.receivers = append(n.receivers, r)
	return r, nil
}

// RefuseIPv6 has Listen fail for what is IPv6.
func (n *Network) RefuseIPv6(err error) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	n.listenErr6 = err
}

// GatewayRoutes lists the routes that the test has put into Routes.
func (n *Network) GatewayRoutes(ipv6 bool) (found []multicast.GatewayRoute, err error) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	n.Listed++
	for _, r := range n.Routes {
		if r.Groups.Addr().Is6() == ipv6 {
			found = append(found, r)
		}
	}
	return found, nil
}

// GatewayRoute finds the first route that covers the group on the source's interface.
func (n *Network) GatewayRoute(s multicast.Source, group netip.Addr) (multicast.GatewayRoute, bool) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	for _, r := range n.Routes {
		if r.Interface == s.Interface && r.Groups.Contains(group) {
			return r, true
		}
	}
	return multicast.GatewayRoute{}, false
}

func (n *Network) HostUnclaimed() (multicast.HostUnclaimed, error) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	return n.Counts, nil
}

// LastReceiver is the one opened last.
func (n *Network) LastReceiver() *Receiver {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	return n.receivers[len(n.receivers)-1]
}

// OpenReceivers are the receivers that are not closed.
func (n *Network) OpenReceivers() (open []*Receiver) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	for _, r := range n.receivers {
		select {
		case <-r.Done:
		default:
			open = append(open, r)
		}
	}
	return open
}

// LastSocket is the one opened last.
func (n *Network) LastSocket() *Socket {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	return n.Sockets[len(n.Sockets)-1]
}

// SocketOn is the one opened last on an interface.
func (n *Network) SocketOn(name string) *Socket {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	for _, s := range slices.Backward(n.Sockets) {
		if s.Src.Interface == name {
			return s
		}
	}
	return nil
}

func (n *Network) Set(ifs ...multicast.Interface) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	n.Present = ifs
}

// note takes down what a socket sends.
func (n *Network) note(d multicast.Datagram) {
	n.Logging.Lock()
	defer n.Logging.Unlock()
	if n.Sent == nil {
		n.Sent = make(map[string][]string)
	}
	n.Sent[d.To.String()] = append(n.Sent[d.To.String()], string(d.Payload))
}

// Datagrams is a batch of one datagram of the device.
func (n *Network) Datagrams(payload string) []multicast.Datagram {
	return []multicast.Datagram{{Source: netip.MustParseAddrPort(Device), Payload: []byte(payload)}}
}

// Payloads are what was sent by any socket, without the group.
func (n *Network) Payloads() string {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	var all []string
	for _, s := range n.Sockets {
		for _, line := range s.Took() {
			_, payload, _ := strings.Cut(line, " ")
			all = append(all, payload)
		}
	}
	return strings.Join(all, ",")
}

// At is the open receiver of a group on an interface.
func (n *Network) At(group, on string) *Receiver {
	for _, r := range n.OpenReceivers() {
		if r.Options.Group.String() == group && r.on == on {
			return r
		}
	}
	return nil
}

// Opened is what was opened so far, and what of it is not closed.
func (n *Network) Opened() (sockets, receivers, inUse int) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	for _, s := range n.Sockets {
		select {
		case <-s.gone:
		default:
			inUse++
		}
	}
	for _, r := range n.receivers {
		select {
		case <-r.Done:
		default:
			inUse++
		}
	}
	return len(n.Sockets), len(n.receivers), inUse
}

// From is what left from the sockets of an interface.
func (n *Network) From(on string) (lines []string) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	for _, s := range n.Sockets {
		if s.Src.Interface == on {
			lines = append(lines, s.Took()...)
		}
	}
	return lines
}

// Count is how many datagrams went to some groups.
func (n *Network) Count(groups ...string) (count int) {
	n.Logging.Lock()
	defer n.Logging.Unlock()
	for _, g := range groups {
		count += len(n.Sent[g])
	}
	return count
}
