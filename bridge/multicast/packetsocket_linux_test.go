package multicast

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// seen is a packet of IPv4 or IPv6 in short: its addresses and, of UDP, the port.
func seen(b []byte) string {
	if b[0]>>4 == 4 {
		text := fmt.Sprintf("%d %s", b[9], netip.AddrFrom4([4]byte(b[16:20])))
		if h := int(b[0]&15) * 4; b[9] == unix.IPPROTO_UDP && len(b) >= h+4 {
			text += fmt.Sprintf(":%d", int(b[h+2])<<8|int(b[h+3]))
		}
		return text
	}
	text := fmt.Sprintf("%d %s", b[6], netip.AddrFrom16([16]byte(b[24:40])))
	if b[6] == unix.IPPROTO_UDP {
		text += fmt.Sprintf(":%d", int(b[42])<<8|int(b[43]))
	}
	return text
}

// A packet socket sees groups that nobody here has joined, broadcasts, reports of others and
// what comes to low ports of this host; not answers to high ports, TCP, nor what this host
// sends itself.
func TestAPacketSocketSeesAllGroupsAndNothingElse(t *testing.T) {
	rig := netlab.NewRig(t)
	var s *PacketSocket
	on := func(f func() error) {
		t.Helper()
		if err := rig.GW.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	var iso Interface
	on(func() (err error) {
		all, err := Interfaces()
		if err != nil {
			return err
		}
		if iso, err = ResolveInterface("iso0", all); err != nil {
			return err
		}
		s, err = OpenPacketSocket(iso, SightArriving)
		return err
	})
	t.Cleanup(func() { s.Close() })

	say := func(host *netlab.Host, dev, source string, to ...string) {
		k := host.Talker(dev, netip.MustParseAddr(source))
		for _, one := range to {
			k.Say(netip.MustParseAddrPort(one), []byte("x"))
		}
	}
	say(rig.GW, "iso0", "172.17.0.1", "239.9.9.1:5000") // its own
	say(rig.Dev, "eth0", "172.17.0.50", "239.9.9.2:40000", "172.17.0.1:32768", "172.17.0.1:32767")
	say(rig.Dev, "eth0", "fd17::50", "[ff15::7]:50000", "[fd17::1]:32768", "[fd17::1]:32767")
	err := rig.Dev.Do(func() error {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(172, 17, 0, 50)})
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort("172.17.255.255:60000")); err != nil {
			return err
		}
		all, err := Interfaces()
		if err != nil {
			return err
		}
		eth, err := ResolveInterface("eth0", all)
		if err != nil {
			return err
		}
		j, err := JoinOnly(netip.MustParseAddr("239.7.7.7"), eth)
		if err != nil {
			return err
		}
		t.Cleanup(func() { j.Close() })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	want := []string{"17 239.9.9.2:40000", "17 172.17.0.1:32767", "17 ff15::7:50000", "17 fd17::1:32767", "17 172.17.255.255:60000", "2 224.0.0.22"}
	var got []string
	missing := func() bool { // in any order: what is for one host waits for its neighbour's address
		return slices.ContainsFunc(want, func(one string) bool { return !slices.Contains(got, one) })
	}
	late := time.AfterFunc(30*time.Second, func() { s.Close() })
	defer late.Stop()
	for b := make([]byte, 1<<16); missing(); {
		n, _, err := s.Read(b)
		if err != nil {
			t.Fatalf("%v; seen %q\nwant %q", err, got, want)
		}
		if text := seen(b[:n]); !slices.Contains(got, text) && text != "0 ff02::16" { // MLD of the device's own addresses
			got = append(got, text)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("seen %q\nwant %q", got, want)
	}
	if s.Lost() != 0 {
		t.Errorf("%d lost", s.Lost())
	}
	s.Close()
	if _, _, err := s.Read(make([]byte, 100)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	s.Close()
}

// What passes is what comes in at any port and what leaves; reports are alone, of both ways.
func TestAPacketSocketSeesWhatItIsAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		what Sight
		want []string
	}{
		"passing": {SightPassing, []string{"17 239.9.9.2:40000", "17 172.17.0.1:32768", "leaves 17 239.9.9.1:5000", "leaves 2 224.0.0.22"}},
		"reports": {SightReports, []string{"leaves 2 224.0.0.22"}},
	} {
		t.Run(name, func(t *testing.T) {
			rig := netlab.NewRig(t)
			iso := Interface{Name: "iso0", Index: rig.GW.Index("iso0")}
			var s *PacketSocket
			if err := rig.GW.Do(func() (err error) { s, err = OpenPacketSocket(iso, c.what); return err }); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			k := rig.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50"))
			k.Say(netip.MustParseAddrPort("239.9.9.2:40000"), []byte("x"))
			k.Say(netip.MustParseAddrPort("172.17.0.1:32768"), []byte("x"))
			rig.GW.Talker("iso0", netip.MustParseAddr("172.17.0.1")).Say(netip.MustParseAddrPort("239.9.9.1:5000"), []byte("x"))
			var j io.Closer
			if err := rig.GW.Do(func() (err error) { j, err = JoinOnly(netip.MustParseAddr("239.7.7.7"), iso); return err }); err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			var got []string
			for b := make([]byte, 1<<16); !slices.Contains(got, c.want[len(c.want)-1]); {
				n, leaving, err := s.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				text := seen(b[:n])
				if leaving {
					text = "leaves " + text
				}
				// MLD of the hosts' own addresses comes at any time.
				if !slices.Contains(got, text) && !strings.Contains(text, "ff02::16") {
					got = append(got, text)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("seen %q\nwant %q", got, c.want)
			}
		})
	}
}

// Packets that find no room are counted, over several questions.
func TestAPacketSocketCountsWhatItLoses(t *testing.T) {
	rig := netlab.NewRig(t)
	var s *PacketSocket
	err := rig.GW.Do(func() (err error) {
		s, err = OpenPacketSocket(Interface{Name: "iso0", Index: rig.GW.Index("iso0")}, SightArriving)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_ = s.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	if err != nil {
		t.Fatal(err)
	}
	k := rig.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50"))
	lost := uint64(0)
	for range 2 {
		for range 200 {
			k.Say(netip.MustParseAddrPort("239.9.9.2:5000"), make([]byte, 1000))
		}
		now := s.Lost()
		if now <= lost {
			t.Errorf("%d lost, and before %d", now, lost)
		}
		lost = now
	}
}
