package multicast

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// mdns is a port that programs share.
const mdns = 5353

// neighbour is another program that has a port. Nobody reads its socket but the test.
type neighbour struct{ fd int }

// neighbourOn binds one, with the options that it shares the port by.
func neighbourOn(t *testing.T, h *netlab.Host, addr string, options ...int) (n *neighbour, err error) {
	t.Helper()
	a := netip.MustParseAddrPort(addr)
	n = &neighbour{-1}
	domain := unix.AF_INET
	if a.Addr().Is6() {
		domain = unix.AF_INET6
	}
	err = h.Do(func() (err error) {
		if n.fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		for _, o := range options {
			err = errors.Join(err, unix.SetsockoptInt(n.fd, unix.SOL_SOCKET, o, 1))
		}
		return errors.Join(err, unix.Bind(n.fd, sockaddr(a, 0)))
	})
	t.Cleanup(n.close)
	return n, err
}

func (n *neighbour) close() {
	if n.fd >= 0 {
		unix.Close(n.fd)
	}
	n.fd = -1
}

// count waits until it has heard n datagrams.
func (n *neighbour) count(t *testing.T, want int) {
	t.Helper()
	got, buf := 0, make([]byte, 100)
	for end := time.Now().Add(5 * time.Second); got < want; {
		if _, err := unix.Read(n.fd, buf); err == nil {
			got++
		} else if time.Now().After(end) {
			t.Errorf("the neighbour heard %d datagrams, want %d", got, want)
			return
		} else {
			time.Sleep(time.Millisecond)
		}
	}
}

// shares has the sender look who has its port, on its host.
func shares(t *testing.T, h *netlab.Host, s *Sender) {
	t.Helper()
	if err := h.Do(s.SharePort); err != nil {
		t.Fatal(err)
	}
}

// A fixed source port beside a program that shares it, by either option, on the same
// address or on all, whoever is first: both have the port, the program keeps all its
// unicast, and datagrams leave from the port.
func TestAFixedSourcePortIsSharedAndTakesNoUnicast(t *testing.T) {
	const addr, port = unix.SO_REUSEADDR, unix.SO_REUSEPORT
	for _, family := range []struct {
		source, device, all string
		group               netip.AddrPort
	}{{"172.17.0.1", "172.17.0.50", "0.0.0.0", rigGroup}, {"172.17.0.1", "172.17.0.50", "::", rigGroup}, {"fd17::1", "fd17::50", "::", rigGroup6}} {
		for _, options := range [][]int{{addr}, {port}, {addr, port}} {
			for _, on := range []string{family.all, family.source} {
				if on == family.source && family.all == "::" && family.group == rigGroup {
					continue // had before
				}
				for _, first := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s beside %s %v, first %t", family.source, on, options, first), func(t *testing.T) {
						t.Parallel()
						rig := netlab.NewRig(t)
						iso := rig.Dev.Capture("eth0")
						b := with(bind(family.source, "iso0"), func(b *Binding) { b.SourcePort = mdns })
						beside := netip.AddrPortFrom(netip.MustParseAddr(on), mdns).String()
						var n *neighbour
						var err error
						if !first {
							n, err = neighbourOn(t, rig.GW, beside, options...)
						}
						s := openOn(t, rig.GW, b)
						if first {
							n, err = neighbourOn(t, rig.GW, beside, options...)
							shares(t, rig.GW, s)
						}
						if err != nil {
							t.Fatal(err)
						}
						talker := rig.Dev.Talker("eth0", netip.MustParseAddr(family.device))
						question := []byte("?")
						talker.Say(s.LocalAddr(), question, question, question, question, question, question, question, question)
						n.count(t, 8)
						if p := probeOn(t, rig.GW, s); p.Result != ProbeVerified {
							t.Errorf("the self-test: %s: %s", p.Result, p.Detail)
						}
						send(t, s, family.group, "one", "two")
						for _, f := range iso.WaitFor(2, nil) {
							if f.Src != netip.AddrPortFrom(netip.MustParseAddr(family.source), mdns) || f.Dst != family.group {
								t.Errorf("%v", f)
							}
						}
					})
				}
			}
		}
	}
}

// Alone on its port, a sender counts what comes there, and lets others join.
func TestAFixedSourcePortOfItsOwnCountsWhatComes(t *testing.T) {
	rig := netlab.NewRig(t)
	for source, device := range map[string]string{"172.17.0.1": "172.17.0.50", "fd17::1": "fd17::50"} {
		s := openOn(t, rig.GW, with(bind(source, "iso0"), func(b *Binding) { b.SourcePort = mdns }))
		shares(t, rig.GW, s)
		rig.Dev.Talker("eth0", netip.MustParseAddr(device)).Say(s.LocalAddr(), []byte("?"))
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			if n, err := s.Unclaimed(); n == 1 && err == nil {
				break
			} else if time.Now().After(end) {
				t.Fatalf("%d counted, %v; want 1", n, err)
			}
		}
		s.Close()
	}
}

// Who shares with nobody keeps the port, and is named; so is a second sender.
func TestASourcePortThatIsNotSharedIsPending(t *testing.T) {
	rig := netlab.NewRig(t)
	src := waitResolve(t, rig.GW, with(bind("172.17.0.1", "iso0"), func(b *Binding) { b.SourcePort = mdns }), "resolve", nil, func(_ Source, err error) bool { return err == nil })
	n, err := neighbourOn(t, rig.GW, "0.0.0.0:5353")
	if err != nil {
		t.Fatal(err)
	}
	open := func() (s *Sender, err error) {
		rig.GW.Do(func() error { s, err = Open(src); return nil })
		return s, err
	}
	const taken = "open a sender at 172.17.0.1:5353 on iso0: source port 5353 is taken: exe (pid "
	if _, err := open(); !errors.Is(err, ErrPending) || !strings.HasPrefix(err.Error(), taken) ||
		!strings.HasSuffix(err.Error(), "is bound to 0.0.0.0:5353 and does not share it: have it set SO_REUSEADDR before it binds, or stop it, or choose another source_port") {
		t.Errorf("beside one that does not share: %v", err)
	}
	n.close()
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const twice = "open a sender at 172.17.0.1:5353 on iso0: another topicast, or another rule of this one, sends from 172.17.0.1:5353 on iso0 already: choose another source_port"
	if _, err := open(); !errors.Is(err, ErrPending) || err.Error() != twice {
		t.Errorf("a second sender: %v", err)
	}
	s.Close()
	again, err := open()
	if err != nil {
		t.Fatalf("once the first is closed: %v", err)
	}
	again.Close()
	if _, err := neighbourOn(t, rig.GW, "172.17.0.1:5353"); err != nil {
		t.Errorf("the port is not free after all have closed: %v", err)
	}
}
