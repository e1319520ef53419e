package multicast

import (
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

// What the kernel says of a bridge: settings, who has joined behind which port, and what of it is
// this host itself.
func TestABridgeTellsWhoHasJoinedBehindIt(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.Add("bridge", "br0")
	rig.GW.DelAddr("iso0", "172.17.0.1/16")
	rig.GW.Enslave("iso0", "br0")
	rig.GW.Addr("br0", "172.17.0.1/16")
	run := func(line string) {
		t.Helper()
		if out, err := rig.GW.Command("sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	read := func(name string) (b *Bridge) {
		t.Helper()
		err := rig.GW.Do(func() (err error) {
			b, err = ReadBridge(Interface{Name: name, Index: rig.GW.Index(name)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := read("iso0"); b != nil {
		t.Errorf("a port is taken for a bridge: %+v", b)
	}
	run("ip link set br0 type bridge mcast_snooping 0 mcast_querier 0")
	if b := read("br0"); b.Snooping || b.Querier(netip.IPv4Unspecified()) || b.Querier(netip.IPv6Unspecified()) || len(b.NoFlood) > 0 {
		t.Errorf("%+v", b)
	}
	run("ip link set br0 type bridge mcast_snooping 1 mcast_querier 1 && bridge link set dev iso0 mcast_flood off mcast_router 2")
	run("bridge mdb add dev br0 port iso0 grp 239.1.2.3 permanent && bridge mdb add dev br0 port iso0 grp ff15::7 permanent")
	var own io.Closer
	err := rig.GW.Do(func() (err error) {
		own, err = JoinOnly(netip.MustParseAddr("239.4.4.4"), Interface{Name: "br0", Index: rig.GW.Index("br0")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for {
		b := read("br0")
		if b.Snooping && b.Querier4 && b.Querier6 && slices.Equal(b.NoFlood, []string{"iso0"}) && slices.Equal(b.Routers, []string{"iso0"}) &&
			slices.Equal(b.Members[netip.MustParseAddr("239.1.2.3")], []string{"iso0"}) && slices.Equal(b.Members[netip.MustParseAddr("ff15::7")], []string{"iso0"}) &&
			b.Own[netip.MustParseAddr("239.4.4.4")] && len(b.Members[netip.MustParseAddr("239.4.4.4")]) == 0 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatalf("%+v", b)
		}
		time.Sleep(time.Millisecond)
	}
}
