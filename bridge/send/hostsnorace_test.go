//go:build !race

package send_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
)

// The race detector of Go 1.26 was seen to crash with as many timers in a bubble of synctest (SIGSEGV in
// runtime.(*timer).modify).

// Whoever has named as many hosts that are not there as are remembered does not have what is for others go
// without a look for good: a message for one that does not answer is lost, and that has to be counted.
func TestHostsThatNobodyNamesAnyMoreMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		b := hostRig(t, l, rigOptions{}, fake.SendRule(t, "lamps", "lamp/{a}/{b}", "239.1.1.1:5000", fake.ToHost(t, "172.17.{a}.{b}:5000")))
		for a := range 18 {
			var batch []session.Message
			for i := 1; i < 255; i++ {
				batch = append(batch, fake.Message(fmt.Sprintf("lamp/%d/%d", a, i), "x", 0))
			}
			b.send.Handle(batch)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		for range 2 {
			b.send.Handle([]session.Message{fake.Message("lamp/99/1", "x", 1)})
			time.Sleep(10 * time.Second)
		}
		dropped := b.Status().Rules[0].Drops[account.ReasonUnreachable.String()]
		for range 10 {
			b.send.Handle([]session.Message{fake.Message("lamp/99/1", "x", 1)})
		}
		if n := b.Status().Rules[0].Drops[account.ReasonUnreachable.String()] - dropped; n < 6 {
			t.Errorf("%d of 10 messages for a host that does not answer are counted as lost", n)
		}
		if n := b.send.HostsRemembered(); n > send.MaxHosts {
			t.Errorf("%d hosts are remembered", n)
		}
		synctest.Wait()
	})
}
