package bridge

import (
	"fmt"
	"testing"

	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestAFlushIsOfTheRulesOfTheNameAlone(t *testing.T) {
	b := newTestBridgeOf(t, &fake.Network{}, Options{QueueSize: fake.Plenty},
		[]mapping.SendRule{fake.SendRule(t, "one", "a", "239.1.1.1:5000"), fake.SendRule(t, "two", "b", "239.1.1.2:5000")},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "heard", "239.1.1.3:5000", "c")})
	b.send.Handle([]session.Message{fake.Message("a", "x", 1), fake.Message("b", "x", 1), fake.Message("b", "y", 1)})
	for _, c := range []struct {
		name string
		all  bool
		want string
	}{
		{"on", false, `[] there is no rule "on"; did you mean "one"?`},
		{"one", false, "[{one 1 0 false}] <nil>"},
		{"heard", false, "[{heard 0 0 false}] <nil>"},
		{"", true, "[{one 0 0 false} {two 2 0 false} {heard 0 0 false}] <nil>"},
	} {
		flushed, err := b.Flush(c.name, c.all, "the operator")
		if got := fmt.Sprint(flushed, " ", err); got != c.want {
			t.Errorf("%q: %s, want %s", c.name, got, c.want)
		}
	}
}
