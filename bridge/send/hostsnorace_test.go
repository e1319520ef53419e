//go:build !race

package send_test

import (
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
)

// The race detector of Go 1.26 was seen to crash with as many timers in a bubble of synctest (SIGSEGV in
// runtime.(*timer).modify).

// With ever more hosts than can be remembered and asked for, the bound of those asked for holds, and one that is there
// is found to be within a second of the last of them.
func TestMoreHostsThanCanBeRememberedAreAskedForWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink("172.17.200.1")
		l.buffer = 64 << 20
		b := hostRig(t, l, rigOptions{}, fake.SendRule(t, "lamps", "lamp/{a}/{b}", "239.1.1.1:5000", fake.ToHost(t, "172.17.{a}.{b}:5000")))
		for n := 0; n < 20_000; n += 1000 {
			var batch []session.Message
			for i := range 1000 {
				batch = append(batch, lampNumber(n+i))
			}
			b.send.Handle(batch)
			time.Sleep(100 * time.Millisecond)
		}
		if l.most > send.MaxAsked/2+1 {
			t.Errorf("the kernel was to ask for %d hosts at a time", l.most)
		}
		time.Sleep(time.Second)
		for range 40 {
			b.send.Handle([]session.Message{fake.Message("lamp/200/1", "x", 1)})
			time.Sleep(50 * time.Millisecond)
		}
		if got := l.to("172.17.200.1"); len(got) < 10 {
			t.Errorf("the host that is there got %d of 40", len(got))
		}
		time.Sleep(5 * time.Second)
		b.settled("at the end", t)
	})
}

// Hosts that were asked for in vain, as many as are remembered, take no room from one that is there once nobody
// names them.
func TestHostsThatNobodyNamesAnyMoreMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink("172.17.200.1")
		l.buffer = 64 << 20
		b := hostRig(t, l, rigOptions{}, fake.SendRule(t, "lamps", "lamp/{a}/{b}", "239.1.1.1:5000", fake.ToHost(t, "172.17.{a}.{b}:5000")))
		for n := 0; n < send.MaxHosts; n += 8 {
			var batch []session.Message
			for i := range 8 {
				batch = append(batch, lampNumber(n+i))
			}
			b.send.Handle(batch)
			time.Sleep(130 * time.Millisecond) // which is not faster than they can be asked for
		}
		time.Sleep(send.UnusedFor + time.Second)
		b.send.Handle([]session.Message{fake.Message("lamp/200/1", "x", 1)})
		time.Sleep(time.Second)
		if got := l.to("172.17.200.1"); len(got) != 1 {
			t.Errorf("the host that is there got %q", got)
		}
		if n := b.send.HostsRemembered(); n > send.MaxHosts {
			t.Errorf("%d hosts are remembered", n)
		}
		b.settled("at the end", t)
	})
}
