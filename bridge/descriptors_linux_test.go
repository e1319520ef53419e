package bridge

import (
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
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, []mapping.SendRule{fake.SendRule(t, "out", "a", "239.1.1.1:5000")},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1-239.1.1.3:5000", "b")})
	for _, c := range b.Readiness().Conditions {
		if c.Name == "descriptors" {
			if c.State != account.StateDegraded || !strings.HasPrefix(c.Reason, "132 file descriptors are needed for these rules, 4 of them for sockets, and the limit is 100: ") {
				t.Errorf("%+v", c)
			}
			return
		}
	}
	t.Errorf("no condition tells: %+v", b.Readiness())
}
