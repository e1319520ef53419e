package multicast

import (
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

// What comes to a sender's port is counted, and takes up no memory of it.
func TestWhatComesToASendersPortIsCounted(t *testing.T) {
	rig := netlab.NewRig(t)
	for source, device := range map[string]string{"172.17.0.1": "172.17.0.50", "fd17::1": "fd17::50"} {
		s := openOn(t, rig.GW, with(bind(source, "iso0"), nil))
		count := func() uint64 {
			n, err := s.Unclaimed()
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if probeOn(t, rig.GW, s); count() != 0 {
			t.Errorf("%d at first", count())
		}
		talker := rig.Dev.Talker("eth0", bind(device, "").Source.Addr())
		talker.Say(s.LocalAddr(), []byte("an answer"), nil, []byte("another"))
		for end := time.Now().Add(10 * time.Second); count() < 3; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d counted, want 3", source, count())
			}
		}
	}
}
