package bridge

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// fakeNetwork is a host whose interfaces and sockets a test writes the script of.
type fakeNetwork struct {
	mu            sync.Mutex
	logging       sync.Mutex
	interfaces    []multicast.Interface
	interfacesErr error
	onOpen        func(multicast.Source) error // called with the lock
	slow          time.Duration                // how long a call of Send takes
	probe         multicast.Probe
	lost          error // what Carrier says of a socket just opened
	openErr       error
	sockets       []*fakeSocket
	listenErr     error
	receivers     []*fakeReceiver
	log           map[string][]string // payloads by group, as they were sent by any socket
	onListen      func()              // called without the lock
}

func (n *fakeNetwork) Interfaces() ([]multicast.Interface, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.interfaces, n.interfacesErr
}

func (n *fakeNetwork) Open(src multicast.Source) (socket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.openErr != nil {
		return nil, n.openErr
	}
	if n.onOpen != nil {
		if err := n.onOpen(src); err != nil {
			return nil, err
		}
	}
	s := &fakeSocket{net: n, src: src, free: make(chan struct{}, 1), gone: make(chan struct{}), cap: 1 << 30, lost: n.lost}
	n.sockets = append(n.sockets, s)
	return s, nil
}

func (n *fakeNetwork) Watch(ctx context.Context, changed func(multicast.Change)) error {
	changed(multicast.Change{Overflow: true})
	<-ctx.Done()
	return nil
}

func (n *fakeNetwork) Listen(o multicast.ReceiverOptions, on multicast.Interface) (receiver, error) {
	if n.onListen != nil {
		n.onListen()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listenErr != nil {
		return nil, n.listenErr
	}
	r := &fakeReceiver{options: o, on: on.Name, in: make(chan []multicast.Datagram), done: make(chan struct{})}
	n.receivers = append(n.receivers, r)
	return r, nil
}

// receiver is the one opened last.
func (n *fakeNetwork) receiver() *fakeReceiver {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.receivers[len(n.receivers)-1]
}

// open are the receivers that are not closed.
func (n *fakeNetwork) open() (open []*fakeReceiver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.receivers {
		select {
		case <-r.done:
		default:
			open = append(open, r)
		}
	}
	return open
}

// fakeReceiver receives what a test hands it.
type fakeReceiver struct {
	options multicast.ReceiverOptions
	on      string // name of the interface
	in      chan []multicast.Datagram
	done    chan struct{}

	mu      sync.Mutex
	drops   uint64
	rejoins int
	failure error // of Receive, once in is closed
}

// hear hands over a batch, each datagram from its source.
func (r *fakeReceiver) hear(source string, payloads ...string) {
	var batch []multicast.Datagram
	for _, p := range payloads {
		batch = append(batch, multicast.Datagram{Group: r.options.Group, Source: netip.MustParseAddrPort(source), Payload: []byte(p)})
	}
	r.in <- batch
}

func (r *fakeReceiver) Receive(batch []multicast.Datagram) (int, error) {
	select {
	case in, ok := <-r.in:
		if !ok {
			return 0, r.failure
		}
		return copy(batch, in), nil
	case <-r.done:
		return 0, net.ErrClosed
	}
}

func (r *fakeReceiver) KernelDrops() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drops, nil
}

func (r *fakeReceiver) Rejoin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejoins++
	return nil
}

func (r *fakeReceiver) Buffer() int { return 4096 }

func (r *fakeReceiver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.done:
	default:
		close(r.done)
	}
	return nil
}

// fakePublisher takes messages as the session does, and answers as told.
type fakePublisher struct {
	mu      sync.Mutex
	took    []string // topic, blank, payload
	origins []session.Origin
	batches []session.Publication
}

// batch is message i of those published.
func (p *fakePublisher) batch(i int) session.Publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.batches[i]
}

func (p *fakePublisher) PublishBatch(batch []session.Publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range batch {
		p.took = append(p.took, string(m.Topic)+" "+string(m.Payload))
		p.origins = append(p.origins, m.Origin)
		p.batches = append(p.batches, m)
	}
}

// published are the messages so far.
func (p *fakePublisher) published() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.took...)
}

// socket is the one opened last.
func (n *fakeNetwork) socket() *fakeSocket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sockets[len(n.sockets)-1]
}

func (n *fakeNetwork) set(ifs ...multicast.Interface) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.interfaces = ifs
}

// fakeSocket takes cap datagrams, then fails as told.
type fakeSocket struct {
	net  *fakeNetwork
	src  multicast.Source
	free chan struct{} // lets Wait return
	gone chan struct{} // closed

	mu     sync.Mutex
	cap    int
	full   error            // what Send says once cap is used up; ErrWouldBlock by default
	reject map[string]error // by payload
	sent   []string         // group, blank, payload
	calls  int
	closed bool
	lost   error // what Carrier says
	asked  int   // how often it was asked
}

// Carrier says what the test has put into lost.
func (s *fakeSocket) Carrier() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.lost
}

// cut takes the carrier away; nil gives it back.
func (s *fakeSocket) cut(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = err
}

func (s *fakeSocket) Send(batch []multicast.Datagram, failed func(int, error)) (int, error) {
	if s.net.slow > 0 {
		time.Sleep(s.net.slow)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	for i, d := range batch {
		if err := s.reject[string(d.Payload)]; err != nil {
			failed(i, err)
			continue
		}
		if s.cap == 0 {
			if s.full != nil {
				return i, s.full
			}
			return i, multicast.ErrWouldBlock
		}
		s.cap--
		s.net.note(d)
		s.sent = append(s.sent, d.Group.String()+" "+string(d.Payload))
	}
	return len(batch), nil
}

// note takes down what a socket sends.
func (n *fakeNetwork) note(d multicast.Datagram) {
	n.logging.Lock()
	defer n.logging.Unlock()
	if n.log == nil {
		n.log = make(map[string][]string)
	}
	n.log[d.Group.String()] = append(n.log[d.Group.String()], string(d.Payload))
}

func (s *fakeSocket) Wait(ctx context.Context) error {
	select {
	case <-s.free:
		return nil
	case <-s.gone:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *fakeSocket) Probe(context.Context) multicast.Probe { return s.net.probe }
func (s *fakeSocket) LocalAddr() netip.AddrPort             { return netip.AddrPortFrom(s.src.Addr, 40000) }

func (s *fakeSocket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		close(s.gone)
	}
	s.closed = true
	return nil
}

// allow makes room for n more datagrams, and full the word for when it is gone.
func (s *fakeSocket) allow(n int, full error) {
	s.mu.Lock()
	s.cap, s.full = n, full
	s.mu.Unlock()
	select {
	case s.free <- struct{}{}:
	default:
	}
}

func (s *fakeSocket) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.sent...)
}

// Two interfaces with one address each.
var (
	iso0  = iface("iso0", 3, "172.17.0.1/16")
	priv0 = iface("priv0", 4, "10.0.0.2/24")
)

func iface(name string, index int, prefix string) multicast.Interface {
	return multicast.Interface{Name: name, Index: index, MTU: 1500, Up: true, Carrier: true,
		Addresses: []multicast.Address{{Prefix: netip.MustParsePrefix(prefix)}}}
}

// rule is a send rule from 172.17.0.1 on iso0, or from what change makes of it.
func rule(t testing.TB, name, filter, group string, change ...func(*mapping.SendRule)) mapping.SendRule {
	t.Helper()
	f, err := mapping.ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	g, err := mapping.ParseGroup(group)
	if err != nil {
		t.Fatal(err)
	}
	p, err := mapping.ParsePayload("raw")
	if err != nil {
		t.Fatal(err)
	}
	r := mapping.SendRule{Name: name, Filter: f, QoS: 1, Group: g, Payload: p, Binding: mapping.Binding{
		Interface: "iso0", Source: netip.MustParsePrefix("172.17.0.1/32"), TTL: 1, Loopback: true, Fragment: true}}
	for _, c := range change {
		c(&r)
	}
	return r
}

// listenRule is a receive rule on iso0, or what change makes of it.
func listenRule(t testing.TB, name, group, topic string, change ...func(*mapping.ReceiveRule)) mapping.ReceiveRule {
	t.Helper()
	g, err := mapping.ParseGroupRange(group)
	if err != nil {
		t.Fatal(err)
	}
	to, err := mapping.ParseTopic(topic)
	if err != nil {
		t.Fatal(err)
	}
	r := mapping.ReceiveRule{Name: name, Groups: []mapping.GroupRange{g}, Interface: "iso0", Topic: to, QoS: 1}
	for _, c := range change {
		c(&r)
	}
	return r
}

func onPriv(r *mapping.SendRule) {
	r.Binding.Interface, r.Binding.Source = "priv0", netip.MustParsePrefix("10.0.0.2/32")
}

// newTestBridge is a bridge on n without a broker: tests hand it batches.
func newTestBridge(t testing.TB, n *fakeNetwork, queue int64, rules ...mapping.SendRule) *Bridge {
	t.Helper()
	return newTestBridgeOf(t, n, Options{QueueSize: queue}, rules, nil)
}

// newTestBridgeOf is one of both directions. What it publishes goes to a
// fakePublisher.
func newTestBridgeOf(t testing.TB, n *fakeNetwork, o Options, send []mapping.SendRule, receive []mapping.ReceiveRule) *Bridge {
	t.Helper()
	table, err := mapping.Compile(send, receive)
	if err != nil {
		t.Fatal(err)
	}
	o.Version, o.Table, o.network = "test", table, n
	o.Session.URLs = []string{"mqtt://127.0.0.1:1"}
	o.Session.ClientID = "test"
	o.Session.KeepAlive = 30e9
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.receive.publisher = new(fakePublisher)
	ctx, stop := context.WithCancel(context.Background())
	var drains, readers sync.WaitGroup
	b.employ(&duties{ctx, &drains, &readers})
	t.Cleanup(func() {
		stop()
		drains.Wait()
		b.deafen(&readers)
	})
	b.refresh(ctx)
	return b
}

var payload128 = make([]byte, 128)

// benchRule is rule without a test to fail.
func benchRule() mapping.SendRule {
	f, _ := mapping.ParseFilter("t/{n}")
	g, _ := mapping.ParseGroup("239.{n>>16&255}.{n>>8&255}.{n&255}:5000")
	p, _ := mapping.ParsePayload("raw")
	return mapping.SendRule{Name: "r", Filter: f, Group: g, Payload: p, Binding: mapping.Binding{
		Interface: "iso0", Source: netip.MustParsePrefix("172.17.0.1/32"), TTL: 1}}
}

// heard is a batch of one datagram of the device.
func (n *fakeNetwork) heard(payload string) []multicast.Datagram {
	return []multicast.Datagram{{Source: netip.MustParseAddrPort(device), Payload: []byte(payload)}}
}
