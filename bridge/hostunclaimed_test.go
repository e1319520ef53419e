package bridge

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Where nothing is heard and datagrams come that nobody takes, the log asks, once a
// rule and not before it has been silent for a minute.
func TestASilentRuleIsHintedAtOnce(t *testing.T) {
	var log bytes.Buffer
	o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "busy", "239.1.1.1:5000", "a"), fake.ReceiveRule(t, "silent", "239.1.1.2:5000", "b"), fake.ReceiveRule(t, "mute", "239.1.1.3:5000", "c"),
		fake.ReceiveRule(t, "away", "239.1.1.4:5000", "d", onInterface("eth9")),
	}
	bridgeReceiving(t, o, nil, rules, func(b *Bridge, n *fake.Network) {
		came := func(u multicast.HostUnclaimed) (hints []string) {
			n.Mu.Lock()
			n.Counts = u
			n.Mu.Unlock()
			log.Reset()
			b.logSilence(time.Now())
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "nothing heard yet") {
					_, attrs, _ := strings.Cut(line, "rule=")
					hints = append(hints, strings.TrimSpace(attrs))
				}
			}
			return hints
		}
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "x")
		synctest.Wait()
		if got := came(multicast.HostUnclaimed{Unicast: 1}); got != nil {
			t.Errorf("at once: %q", got)
		}
		time.Sleep(silentFor)
		if got := came(multicast.HostUnclaimed{Unicast: 1}); got != nil {
			t.Errorf("though nothing came: %q", got)
		}
		if got := came(multicast.HostUnclaimed{Unicast: 3, Multicast: 4}); len(got) != 1 || got[0] != "silent rules=2 unicast=2 multicast=4" {
			t.Errorf("%q", got)
		}
		if got := came(multicast.HostUnclaimed{Unicast: 9, Multicast: 4}); got != nil {
			t.Errorf("once more: %q", got)
		}
		if got := b.Status().HostUnclaimed; got == nil || *got != (HostUnclaimedStatus{9, 4}) {
			t.Errorf("status %+v", got)
		}
	})
}
