package bridge

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Where the process may have too few file descriptors for its rules, /readyz says how many
// are needed, whether a socket has found none yet or not.
func TestDescriptorsThatAreTooFewAreACondition(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 100
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	for _, tt := range []struct {
		groups string
		state  account.State
		want   string
	}{
		{"239.1.1.1-239.1.1.3:5000", account.StateDegraded, "132 file descriptors are needed for these rules, 4 of them for sockets, and the limit is 100: "},
		{"239.1.0.1-239.1.0.60:5000", account.StatePending, "189 file descriptors are needed for these rules, 61 of them for sockets, and the limit is 100: "},
	} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, []mapping.SendRule{fake.SendRule(t, "out", "a", "239.1.1.1:5000")},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", tt.groups, "b")})
		i := slices.IndexFunc(b.Readiness().Conditions, func(c Condition) bool { return c.Name == "descriptors" })
		if i < 0 {
			t.Errorf("no condition tells: %+v", b.Readiness())
		} else if c := b.Readiness().Conditions[i]; c.State != tt.state || !strings.HasPrefix(c.Reason, tt.want) {
			t.Errorf("%+v", c)
		}
	}
}
