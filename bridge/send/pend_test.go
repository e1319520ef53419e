package send_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// What is not different but in the port of a try, or in what else there is on the host,
// is logged once, and the state has the last of it.
func TestAReasonThatVariesIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	var refused error
	n := &fake.Network{OnOpen: func(multicast.Source) error { return refused }}
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Logger: slog.New(slog.NewTextHandler(&log, nil))},
		[]mapping.SendRule{fake.SendRule(t, "r", "a", "239.1.1.1:5000")}, nil)
	look := func(ifs ...multicast.Interface) {
		n.Set(ifs...)
		b.reconcile(t.Context())
	}
	for i := range 5 {
		look(fake.Interface("lo", 1, "127.0.0.1/8"), fake.Interface(fmt.Sprintf("veth%cd", 'a'+i), 10+i, "10.0.0.2/24"))
	}
	for i := range 5 {
		refused = fmt.Errorf("a NAT rule changes the source from 172.17.0.1:%d to 10.9.0.1:%d", 50000+i, 40000+i)
		look(fake.Iso0)
	}
	down := fake.Iso0
	down.Up = false
	look(down)
	look(fake.Interface("lo", 1, "127.0.0.1/8"))
	if lines := strings.Count(log.String(), "binding pending"); lines != 4 {
		t.Errorf("%d lines, want 4:\n%s", lines, &log)
	}
	if reason := b.Status().Rules[0].Reason; reason != "there is no interface iso0 (there are lo)" {
		t.Errorf("the reason is %q", reason)
	}
}
