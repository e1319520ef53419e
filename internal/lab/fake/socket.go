package fake

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"topicast/bridge/multicast"
)

// Socket takes cap datagrams, then fails as told.
type Socket struct {
	net  *Network
	Src  multicast.Source
	Free chan struct{} // lets Wait return
	gone chan struct{} // closed

	Mu      sync.Mutex
	Room    int
	full    error            // what Send says once cap is used up; ErrWouldBlock by default
	Reject  map[string]error // by payload
	Never   int              // from this length on a payload is never taken, but ErrNoBuffer; 0: all are
	Emptied bool             // what Idle says
	Crowded bool             // what NeighboursFull says
	sent    []string         // group, blank, payload
	Calls   int
	Closed  bool
	lost    error // what Carrier says
	Asked   int   // how often it was asked

	OnSend, OnWait, OnClose func() // called without the lock

	Back        chan []multicast.Datagram // what Receive returns next
	Unsegmented error                     // what SegmentationError says
	Answers     uint64                    // what came to the port
	Errors      []multicast.HostError     // what HostErrors says
	Looked      int                       // how often SharePort was called
}

// Carrier says what the test has put into lost.
func (s *Socket) Carrier() error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Asked++
	return s.lost
}

// Cut takes the carrier away; nil gives it back.
func (s *Socket) Cut(err error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.lost = err
}

func (s *Socket) SendChecked(check *multicast.AddressCheck, batch []multicast.Datagram, failed func(int, error)) (int, error) {
	if s.OnSend != nil {
		s.OnSend()
	}
	if s.net.Slow > 0 {
		time.Sleep(s.net.Slow)
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Calls++
	for i, d := range batch {
		if err := s.Reject[string(d.Payload)]; err != nil {
			failed(i, err)
			continue
		}
		if s.Never > 0 && len(d.Payload) >= s.Never {
			return i, multicast.ErrNoBuffer
		}
		if s.Room == 0 {
			if s.full != nil {
				return i, s.full
			}
			return i, multicast.ErrWouldBlock
		}
		s.Room--
		s.net.note(d)
		text := d.To.String() + " " + string(d.Payload)
		if d.Broadcast {
			text += " broadcast"
		}
		s.sent = append(s.sent, text)
	}
	return len(batch), nil
}

func (s *Socket) Wait(ctx context.Context) error {
	if s.OnWait != nil {
		s.OnWait()
	}
	select {
	case <-s.Free:
		return nil
	case <-s.gone:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Socket) Idle() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Emptied
}

func (s *Socket) NeighboursFull() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Crowded
}

// NextHop is nobody: hosts are not asked for.
func (s *Socket) NextHop(netip.Addr) netip.Addr { return netip.Addr{} }

// Reach is not known.
func (s *Socket) Reach(netip.Addr) multicast.Reach { return multicast.ReachUnknown }

// Buffer is that of a usual host.
func (s *Socket) Buffer() int { return 212992 }

func (s *Socket) SetQueue(kind string) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Src.Queue = kind
}

func (s *Socket) SegmentationError() error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.Src.Queue != "" {
		return errors.New("cut up by " + s.Src.Queue)
	}
	return s.Unsegmented
}

// HostErrors returns those of Errors, once.
func (s *Socket) HostErrors() []multicast.HostError {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	all := s.Errors
	s.Errors = nil
	return all
}

func (s *Socket) Unclaimed() (uint64, error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Answers, nil
}

// Receive returns what a test has put into Back.
func (s *Socket) Receive(batch []multicast.Datagram) (int, error) {
	select {
	case back := <-s.Back:
		return copy(batch, back), nil
	case <-s.gone:
		return 0, net.ErrClosed
	}
}

// Say has a datagram come back from a host.
func (s *Socket) Say(source, payload string) {
	select {
	case s.Back <- []multicast.Datagram{{To: s.LocalAddr(), Source: netip.MustParseAddrPort(source), Payload: []byte(payload)}}:
	case <-s.gone:
	}
}

// Answer lets n datagrams come to the port.
func (s *Socket) Answer(n uint64) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Answers += n
}

func (s *Socket) SharePort() error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Looked++
	return nil
}

// Probe takes as long as the test says.
func (s *Socket) Probe(context.Context) multicast.Probe {
	if s.net.ProbeTakes > 0 {
		time.Sleep(s.net.ProbeTakes)
	}
	return s.net.Probe
}

func (s *Socket) LocalAddr() netip.AddrPort { return netip.AddrPortFrom(s.Src.Addr, 40000) }

func (s *Socket) Close() error {
	if s.OnClose != nil {
		s.OnClose()
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if !s.Closed {
		close(s.gone)
	}
	s.Closed = true
	return nil
}

// Allow makes room for n more datagrams, and full the word for when it is gone.
func (s *Socket) Allow(n int, full error) {
	s.Mu.Lock()
	s.Room, s.full = n, full
	s.Mu.Unlock()
	select {
	case s.Free <- struct{}{}:
	default:
	}
}

func (s *Socket) Took() []string {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return append([]string(nil), s.sent...)
}

// BlackHole takes everything, and remembers nothing.
type BlackHole struct{ *Socket }
