package send

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
)

// What is not different but in the port of a try, or in what else there is on the host,
// is logged once, and the state has the last of it.
func TestAReasonThatVariesIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "a", "239.1.1.1:5000"))
	o := b.working.bindings[0]
	o.log = slog.New(slog.NewTextHandler(&log, nil))
	for i := range 5 {
		o.pend(fmt.Errorf("a NAT rule changes the source from 172.17.0.1:%d to 10.9.0.1:%d", 50000+i, 40000+i))
	}
	for i := range 5 {
		o.pend(fmt.Errorf("there is no interface never0 (there are lo, veth%cd)", 'a'+i))
	}
	o.pend(errors.New("interface iso0 is down"))
	o.pend(errors.New("there is no interface never0 (there are lo)"))
	if lines := strings.Count(log.String(), "binding pending"); lines != 4 {
		t.Errorf("%d lines, want 4:\n%s", lines, &log)
	}
	if o.reason != "there is no interface never0 (there are lo)" {
		t.Errorf("the reason is %q", o.reason)
	}
}
