package members

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"topicast/bridge/multicast"
	"topicast/internal/lab/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

// waitFor waits until a watch says something of a group.
func waitFor(t *testing.T, w *Watch, group netip.Addr, want string) {
	t.Helper()
	for {
		a := w.Of(netip.PrefixFrom(group, group.BitLen()), 1)[0]
		if strings.Contains(a.String(), want) {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("%s, want %s", a, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// A watch hears those that join and leave, and knows that nobody has joined once a querier has asked.
// Of a bridge of this host it goes by what the kernel says, and no longer when it is none.
func TestAWatchTellsWhoHasJoined(t *testing.T) {
	rig := netlab.NewRig(t)
	on := multicast.Interface{Name: "iso0", Index: rig.GW.Index("iso0")}
	var w *Watch
	if err := rig.GW.Do(func() error { w = Open(on); return nil }); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if why, _ := w.Lacking(); why != "" {
		t.Fatal(why)
	}
	join := func(group netip.Addr) (c io.Closer) {
		t.Helper()
		err := rig.Dev.Do(func() (err error) {
			c, err = multicast.JoinOnly(group, multicast.Interface{Name: "eth0", Index: rig.Dev.Index("eth0")})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	waitFor(t, w, lamps, "no querier of IGMP has asked")
	member, member6 := join(lamps), join(lamps6)
	defer member6.Close()
	waitFor(t, w, lamps, "172.17.0.50 on iso0 has joined 239.10.3.7")
	waitFor(t, w, lamps6, " on iso0 has joined ff15::7")
	member.Close()
	waitFor(t, w, lamps, "no querier of IGMP has asked")
	w.Close()
	waitFor(t, w, lamps, "use of closed")
}
