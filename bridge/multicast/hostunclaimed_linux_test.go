package multicast

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// What comes to a receiver's port and is not for its group is counted by the kernel,
// though no socket of ours is there for it.
func TestUnclaimedDatagramsAreCounted(t *testing.T) {
	rig := netlab.NewRig(t)
	count := func() (u HostUnclaimed) {
		t.Helper()
		if err := rig.GW.Do(func() (err error) { u, err = CountHostUnclaimed(); return err }); err != nil {
			t.Fatal(err)
		}
		return u
	}
	// The network is quiet but for IPv6, which has groups of its own and no UDP.
	r := listenOn(t, rig.GW, rigGroup, "iso0")
	before := count()
	to := func(address string) {
		t.Helper()
		at := netip.AddrPortFrom(netip.MustParseAddr(address), rigGroup.Port())
		k, err := hold(t, rig.Dev, 0, netip.AddrPortFrom(netip.MustParseAddr("172.17.0.50"), 0), unix.SO_BROADCAST)
		if at.Addr().Is6() {
			k, err = hold(t, rig.Dev, 0, netip.MustParseAddrPort("[fd17::50]:0"))
		}
		if err == nil {
			err = k.fd(func(fd int) error { return unix.Sendto(fd, []byte("x"), 0, sockaddr(at, 0)) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, tt := range []struct {
		address string
		want    HostUnclaimed
	}{
		{"172.17.0.1", HostUnclaimed{1, 0}},
		{"fd17::1", HostUnclaimed{2, 0}},
		{"172.17.255.255", HostUnclaimed{2, 1}},
		{"255.255.255.255", HostUnclaimed{2, 2}},
	} {
		to(tt.address)
		got := count().Sub(before)
		for end := time.Now().Add(10 * time.Second); got != tt.want && time.Now().Before(end); time.Sleep(time.Millisecond) {
			got = count().Sub(before)
		}
		if got != tt.want {
			t.Errorf("%d, to %s: %+v, want %+v", i, tt.address, got, tt.want)
		}
	}
	s := sendersOn(t, rig.Dev, "172.17.0.50")[0]
	send(t, s, rigGroup, "claimed")
	if got := next(t, r, 1)[0]; string(got.Payload) != "claimed" {
		t.Errorf("heard %q", got.Payload)
	}
	if got := count().Sub(before); got != (HostUnclaimed{2, 2}) {
		t.Errorf("with one that a receiver took: %+v", got)
	}
}
