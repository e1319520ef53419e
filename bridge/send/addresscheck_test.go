package send_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// lookShared is a socket that notes whether it is the first of those that share a check; its check is
// the one of a sender on the loopback interface.
type lookShared struct {
	*fake.Socket
	on    *multicast.Sender
	asked *[]bool
}

func (s lookShared) SendChecked(check *multicast.AddressCheck, batch []multicast.Datagram, failed func(int, error)) (int, error) {
	if check != nil {
		*s.asked = append(*s.asked, reflect.ValueOf(*check).IsZero())
		_, _ = s.on.SendChecked(check, []multicast.Datagram{{To: netip.MustParseAddrPort("239.255.0.1:9"), Payload: []byte("x")}}, func(int, error) {})
	}
	return s.Socket.SendChecked(check, batch, failed)
}

// What is ready for several sources at once leaves after one look at the addresses; what comes later, or
// after something that may have taken a while, after another.
func TestSourcesOfOneBatchShareALookAtTheAddresses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is asked for addresses on Linux alone")
	}
	src, err := multicast.Binding{Source: netip.MustParsePrefix("127.0.0.1/8"), Interface: "lo", TTL: 1}.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	on, err := multicast.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	var asked []bool
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	var rules []mapping.SendRule
	for i := range 4 {
		r := fake.SendRule(t, fmt.Sprint("r", i), "t", fmt.Sprintf("239.1.1.%d:5000", 1+i))
		r.Binding.SourcePort = uint16(6000 + i) // a source of its own
		rules = append(rules, r)
	}
	var mu sync.Mutex
	var sockets []*fake.Socket
	var sending atomic.Pointer[func()] // called by the second of them
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: func(s *fake.Socket) send.Sender {
		mu.Lock()
		defer mu.Unlock()
		sockets = append(sockets, s)
		s.OnSend = func() {
			if f := sending.Load(); f != nil && s.Src.Binding.SourcePort == 6001 {
				(*f)()
			}
		}
		return lookShared{s, on, &asked}
	}}, rules, nil)
	qos := byte(0)
	expect := func(when string, want ...bool) {
		t.Helper()
		asked = nil
		b.send.Handle([]session.Message{fake.Message("t", when, qos)})
		if !slices.Equal(asked, want) {
			t.Errorf("%s: asked %v, want %v", when, asked, want)
		}
	}
	expect("at first", true, false, false, false)
	expect("and again", true, false, false, false)
	slices.SortFunc(sockets, func(a, b *fake.Socket) int {
		return int(a.Src.Binding.SourcePort) - int(b.Src.Binding.SourcePort)
	})
	qos = 1
	expect("after a question for the carrier", true, true, true, true)
	qos = 0
	sockets[2].Mu.Lock()
	sockets[2].Reject = map[string]error{"after one that is logged": syscall.EPERM}
	sockets[2].Mu.Unlock()
	expect("after one that is logged", true, false, false, true)
	sockets[1].Mu.Lock()
	sockets[1].Room = 0
	sockets[1].Mu.Unlock()
	expect("after one that has no room", true, false, true, false)

	// Of that one its queue is just being sent: whoever waits for that asks anew.
	busy, over := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() {
		close(busy)
		<-over
	})
	sending.Store(&once)
	sockets[1].Mu.Lock()
	sockets[1].Room = fake.Plenty
	sockets[1].Mu.Unlock()
	sockets[1].Free <- struct{}{}
	<-busy
	asked = nil
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.send.Handle([]session.Message{fake.Message("t", "behind it", 0)})
	}()
	fake.WaitFor(t, "it to wait", func() bool {
		stacks := make([]byte, 1<<20)
		for one := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if head, _, _ := strings.Cut(one, "\n"); strings.Contains(head, "sync.Mutex.Lock") && strings.Contains(one, "Handle") {
				return true
			}
		}
		return false
	})
	close(over)
	<-done
	if want := []bool{true, true, false, false}; !slices.Equal(asked, want) {
		t.Errorf("behind a queue: asked %v, want %v", asked, want)
	}

	// Whoever wants each datagram in the log waits for that.
	debug := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b = newRigOf(t, &fake.Network{Present: n.Present}, rigOptions{QueueSize: fake.Plenty, Logger: debug, InPlaceOf: func(s *fake.Socket) send.Sender {
		return lookShared{s, on, &asked}
	}}, rules, nil)
	expect("with log.level debug", true, true, true, true)
}
