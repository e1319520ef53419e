package multicast

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/netlab"
)

// Each trouble shows as ErrPending, costs nothing but the time, and is over for
// the same socket when the cause is, unless the interface was deleted.
func TestATroubledInterfaceMakesSendPending(t *testing.T) {
	rig := netlab.NewRig(t)
	iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
	s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	batch := []Datagram{{To: rigGroup, Payload: []byte("held")}, {To: rigGroup, Payload: []byte("held too")}}
	never := func(i int, err error) { t.Errorf("datagram %d: %v", i, err) }
	for _, tt := range []struct {
		name      string
		off, back func()
	}{
		{"link down", func() { rig.GW.Down("iso0") }, func() { rig.GW.Up("iso0") }},
		{"address deleted", func() { rig.GW.DelAddr("iso0", "172.17.0.1/16") }, func() { rig.GW.Addr("iso0", "172.17.0.1/16") }},
		{"deleted", func() { rig.GW.Delete("iso0") }, nil},
	} {
		tt.off()
		if n, err := s.Send(batch, never); n != 0 || !errors.Is(err, ErrPending) {
			t.Errorf("%s: disposed of %d, %v", tt.name, n, err)
		}
		if tt.back == nil {
			continue
		}
		tt.back()
		before := len(iso.Datagrams())
		if n, err := s.Send(batch, never); n != 2 || err != nil {
			t.Errorf("%s, over: disposed of %d, %v", tt.name, n, err)
		}
		iso.WaitFor(before+2, nil)
	}
	priv.None(nil)
}

// waitResolve resolves until done is satisfied, again whenever Watch says that
// something has changed. After change, if there is one, it is for Watch to speak
// first.
func waitResolve(t *testing.T, h *netlab.Host, b Binding, what string, change func(), done func(Source, error) bool) Source {
	t.Helper()
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	ctx, cancel := contextFor(t)
	go func() {
		ended <- h.Do(func() error {
			return Watch(ctx, func(Change) {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
		})
	}()
	<-changed // it watches
	var src Source
	var err error
	if change != nil {
		change()
		select {
		case <-changed:
		case <-ctx.Done():
			t.Errorf("%s: Watch did not tell", what)
		}
	}
	for {
		h.Do(func() error { src, err = b.Resolve(); return nil })
		if done(src, err) {
			break
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			t.Errorf("%s: last seen %s, %v", what, src, err)
		case err := <-ended:
			t.Errorf("%s: Watch ended: %v", what, err)
			ended <- err
		}
		break
	}
	cancel()
	if err := <-ended; !errors.Is(err, ctx.Err()) {
		t.Errorf("%s: Watch: %v", what, err)
	}
	return src
}

func TestWatchTellsWhenAnAnswerMayBeAnother(t *testing.T) {
	rig := netlab.NewRig(t)
	v4, v6 := bind("172.17.0.1", "iso0"), bind("fd17::77", "iso0")
	late := bind("172.17.0.77", "iso0")
	fine := func(_ Source, err error) bool { return err == nil }
	says := func(text string) func(Source, error) bool {
		return func(_ Source, err error) bool {
			return errors.Is(err, ErrPending) && strings.Contains(err.Error(), text)
		}
	}
	for _, tt := range []struct {
		what   string
		b      Binding
		change func()
		done   func(Source, error) bool
	}{
		{"at first", v4, nil, fine},
		{"an address that is absent", late, nil, says("172.17.0.77 is not on iso0 (it has 172.17.0.1/16)")},
		{"an address arrives", late, func() { rig.GW.Addr("iso0", "172.17.0.77/16") }, fine},
		{"an address goes", late, func() { rig.GW.DelAddr("iso0", "172.17.0.77/16") }, says("172.17.0.77 is not on iso0")},
		{"carrier is lost", v4, func() { rig.Dev.Down("eth0") }, says("interface iso0 has no carrier")},
		{"carrier returns", v4, func() { rig.Dev.Up("eth0") }, fine},
		{"the interface is set down", v4, func() { rig.GW.Down("iso0") }, says("interface iso0 is down")},
		{"the interface is set up", v4, func() { rig.GW.Up("iso0") }, fine},
		{"an IPv6 address is tentative", v6, func() { rig.GW.TentativeAddr("iso0", "fd17::77/64", "1") }, says("fd17::77 on iso0 is not usable yet")},
		{"an IPv6 address is usable", v6, nil, fine},
		{"another MTU", v4, func() { rig.GW.MTU("iso0", 1400) }, func(s Source, _ error) bool { return s.MTU == 1400 }},
		{"the interface is renamed", v4, func() { rig.GW.Rename("iso0", "iso1") }, says("there is no interface iso0 (there are lo, iso1, priv0)")},
		{"the interface is deleted", bind("172.17.0.1", ""), func() { rig.GW.Delete("iso1") }, says("no interface has 172.17.0.1 (there is 127.0.0.1 on lo, 10.0.0.2 on priv0)")},
	} {
		waitResolve(t, rig.GW, tt.b, tt.what, tt.change, tt.done)
	}
}

func TestInterfacesTellsWhatIsToKnow(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.Addr("iso0", "172.17.0.9/16")
	sw := rig.Switch("sw")
	rig.Plug(rig.GW, "br-port", sw)
	get := func(h *netlab.Host, name string) *Interface {
		var ifs []Interface
		if err := h.Do(func() (err error) { ifs, err = Interfaces(); return err }); err != nil {
			t.Fatal(err)
		}
		return findInterface(ifs, name)
	}
	// A link-local address is tentative for a moment.
	fe80 := rig.GW.LinkLocal("iso0").String()
	waitResolve(t, rig.GW, bind(fe80, "iso0"), fe80, nil, func(_ Source, err error) bool { return err == nil })
	got := *get(rig.GW, "iso0")
	want := Interface{
		Name: "iso0", Index: rig.GW.Index("iso0"), MTU: 1500, Up: true, Carrier: true,
		Addresses: []Address{at("172.17.0.1/16"), secondary("172.17.0.9/16"), at("fd17::1/64"), at(fe80 + "/64")},
	}
	// The rig's addresses are added without a broadcast address.
	for i := range want.Addresses {
		want.Addresses[i].Broadcast = got.Addresses[i].Broadcast
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
	// 127 bytes are the longest (ALTIFNAMSIZ of linux/if.h).
	long := strings.Repeat("n", 127)
	rig.GW.AltName("iso0", "enp3s0")
	rig.GW.AltName("iso0", long)
	rig.GW.Label("iso0", "172.17.0.10/16", "iso0:1")
	if got := get(rig.GW, long); got == nil || got.Name != "iso0" || !slices.Equal(got.AltNames, []string{"enp3s0", long}) {
		t.Errorf("by an alternative name: %+v", got)
	}
	if got := get(rig.GW, "iso0:1"); got == nil || got.Name != "iso0" || len(got.labelled("iso0:1")) != 1 {
		t.Errorf("by a label: %+v", got)
	}
	if port := get(sw, "port1"); port.Master != "sw" {
		t.Errorf("a port of the switch is %+v", port)
	}
}
