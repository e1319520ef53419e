package fake

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"topicast/bridge/multicast"
)

// Two interfaces with one address each.
var (
	Iso0  = Interface("iso0", 3, "172.17.0.1/16")
	Priv0 = Interface("priv0", 4, "10.0.0.2/24")
)

// WaitFor waits until a state is reached. In a bubble of testing/synctest whatever led to it has
// come to rest by then: a datagram that a socket has taken is counted, too. Elsewhere only what
// reached itself asks for is so.
func WaitFor(t *testing.T, what string, reached func() bool) {
	t.Helper()
	time.Sleep(time.Nanosecond) // ends, in a bubble, once all others are blocked
	for end := time.Now().Add(20 * time.Second); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Run runs something beside the test, until that ends.
func Run(t testing.TB, run func(ctx context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	t.Cleanup(func() { stop(); <-ended })
}

const Device = "172.17.0.9:4000"

// Allocations returns how many f makes: the least of several counts, since the
// runtime counts for all goroutines and those of its own allocate as well, the more
// so the slower the machine is. What f itself allocates is in every count.
func Allocations(f func()) float64 {
	least := testing.AllocsPerRun(100, f)
	for i := 0; i < 20 && least > 0; i++ {
		least = min(least, testing.AllocsPerRun(100, f))
	}
	return least
}

const Plenty = 1 << 20

func (BlackHole) SendChecked(check *multicast.AddressCheck, batch []multicast.Datagram, _ func(int, error)) (int, error) {
	return len(batch), nil
}

// Payloads are those of what a socket took.
func Payloads(sent []string) (all []string) {
	for _, s := range sent {
		_, payload, _ := strings.Cut(s, " ")
		all = append(all, payload)
	}
	return all
}

// InOrder wants all numbers up to last, each once.
func InOrder(t *testing.T, lines []string, last int) {
	t.Helper()
	for i, line := range lines {
		if _, payload, _ := strings.Cut(line, " "); payload != fmt.Sprint(i) {
			t.Fatalf("%d is %q", i, line)
		}
	}
	if len(lines) != last+1 {
		t.Fatalf("%d came, want %d", len(lines), last+1)
	}
}
