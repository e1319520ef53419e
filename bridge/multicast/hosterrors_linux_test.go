package multicast

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

// What a host, or a router, says of what was sent to a host is told, with who says it. Of what is sent
// to a group nothing is.
func TestICMPErrorsOfAHostAreTold(t *testing.T) {
	for _, c := range []struct {
		source, to string
		says       string
		forged     map[[2]byte]string
	}{
		{"172.17.0.1", "172.17.0.50", "port unreachable", map[[2]byte]string{{11, 0}: "time exceeded", {3, 13}: "communication administratively prohibited", {3, 1}: "host unreachable"}},
		{"fd17::1", "fd17::50", "port unreachable", map[[2]byte]string{{3, 0}: "time exceeded", {1, 1}: "communication administratively prohibited", {1, 3}: "address unreachable"}},
	} {
		t.Run(c.source, func(t *testing.T) {
			rig := netlab.NewRig(t)
			to := netip.AddrPortFrom(netip.MustParseAddr(c.to), 9)
			s := openOn(t, rig.GW, with(bind(c.source, "iso0"), toHosts))
			var all []HostError
			wait := func(n int) []HostError {
				t.Helper()
				for end := time.Now().Add(5 * time.Second); len(all) < n && time.Now().Before(end); time.Sleep(time.Millisecond) {
					all = append(all, s.HostErrors()...)
				}
				return all
			}
			if err := sendHost(s, to.String(), false, "x"); err != nil {
				t.Fatal(err)
			}
			if got := wait(1); len(got) != 1 || got[0] != (HostError{to, to.Addr(), c.says}) {
				t.Fatalf("%v; want %s of %s", got, c.says, to)
			}
			f := forge(t, rig.Dev, s)
			elsewhere := netip.AddrPortFrom(to.Addr().Next(), 9)
			for kind, says := range c.forged {
				all = nil
				f.send(kind[0], kind[1], elsewhere, 0)
				if got := wait(1); len(got) != 1 || got[0] != (HostError{elsewhere, to.Addr(), says}) {
					t.Errorf("type %d, code %d: %v; want %s of %s", kind[0], kind[1], got, says, elsewhere)
				}
			}
			// Many cost no memory, and no datagram.
			capture := rig.Dev.Capture("eth0")
			for i := range 20 {
				for range 100 {
					f.send(3, 3, elsewhere, 0)
				}
				if err := sendHost(s, to.String(), false, fmt.Sprint(i)); err != nil {
					t.Errorf("datagram %d: %v", i, err)
				}
			}
			capture.WaitFor(20, func(f netlab.Frame) bool { return f.UDP() && f.Dst.Addr() == to.Addr() })
			if n := len(s.HostErrors()); n > maxHostErrors {
				t.Errorf("%d are held, more than %d", n, maxHostErrors)
			}

			group := openOn(t, rig.GW, bind(c.source, "iso0"))
			forge(t, rig.Dev, group).send(3, 3, to, 0)
			time.Sleep(10 * time.Millisecond)
			if got := group.HostErrors(); got != nil {
				t.Errorf("of what is sent to groups: %v", got)
			}
		})
	}
}
