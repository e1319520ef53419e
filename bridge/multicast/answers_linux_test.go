package multicast

import (
	"net/netip"
	"testing"

	"topicast/internal/lab/netlab"
)

// reading is an open sender whose answers are read, to groups or to hosts, and what comes.
func reading(t *testing.T, h *netlab.Host, source string, hosts bool) (*Sender, func(payload string) (before []string)) {
	t.Helper()
	s := openOn(t, h, with(bind(source, "iso0"), func(b *Binding) {
		if b.Answers = "a rule"; hosts {
			toHosts(b)
		}
	}))
	came := make(chan string, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for batch := make([]Datagram, MaxReceive); ; {
			n, err := s.Receive(batch)
			if err != nil {
				return
			}
			for _, d := range batch[:n] {
				came <- d.Source.Addr().String() + " " + string(d.Payload)
			}
		}
	}()
	t.Cleanup(func() {
		s.Close()
		<-ended
	})
	return s, func(payload string) (before []string) {
		for is := range came {
			if is == payload {
				return before
			}
			before = append(before, is)
		}
		return before
	}
}

// What comes back is read, of senders to groups and of those to hosts; but not what came by another
// interface.
func TestWhatComesBackIsRead(t *testing.T) {
	rig := netlab.NewRig(t)
	ip(t, rig.Lan, "route add 172.17.0.1 via 10.0.0.2", "-6 route add fd17::1 via fd10::2")
	for source, devices := range map[string][2]string{"172.17.0.1": {"172.17.0.50", "10.0.0.1"}, "fd17::1": {"fd17::50", "fd10::1"}} {
		for _, hosts := range []bool{false, true} {
			s, until := reading(t, rig.GW, source, hosts)
			probeOn(t, rig.GW, s)
			rig.Lan.Talker("eth0", netip.MustParseAddr(devices[1])).Say(s.LocalAddr(), []byte("by the other"))
			talker := rig.Dev.Talker("eth0", netip.MustParseAddr(devices[0]))
			talker.Say(s.LocalAddr(), []byte("an answer"), nil, []byte("the last"))
			got := until(devices[0] + " the last")
			if len(got) != 2 || got[0] != devices[0]+" an answer" || got[1] != devices[0]+" " {
				t.Errorf("%s, to hosts %v: %q", source, hosts, got)
			}
		}
	}
}

// ICMP errors do not end the reading.
func TestICMPErrorsDoNotKeepAnswersOut(t *testing.T) {
	rig := netlab.NewRig(t)
	for _, hosts := range []bool{false, true} {
		s, until := reading(t, rig.GW, "172.17.0.1", hosts)
		f := forge(t, rig.Dev, s)
		talker := rig.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50"))
		for range 2000 {
			f.send(3, 3, netip.MustParseAddrPort("172.17.0.50:5000"), 0)
		}
		talker.Say(s.LocalAddr(), []byte("an answer"))
		if got := until("172.17.0.50 an answer"); len(got) != 0 {
			t.Errorf("to hosts %v: %q", hosts, got)
		}
	}
}
