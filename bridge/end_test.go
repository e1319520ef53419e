package bridge

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// sickBroker accepts a client and subscriptions, and acknowledges no message.
type sickBroker struct {
	deaf chan struct{} // closed: it reads nothing any more,
	over chan struct{} // until this is closed
}

func (s *sickBroker) dial(context.Context, *url.URL) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		for {
			var head [2]byte
			if _, err := io.ReadFull(theirs, head[:1]); err != nil {
				return
			}
			size, shift := 0, 0
			for more := true; more; shift += 7 {
				if _, err := io.ReadFull(theirs, head[1:]); err != nil {
					return
				}
				size |= int(head[1]&127) << shift
				more = head[1] > 127
			}
			body := make([]byte, size)
			if _, err := io.ReadFull(theirs, body); err != nil {
				return
			}
			switch head[0] >> 4 {
			case 1: // CONNECT
				theirs.Write([]byte{0x20, 2, 0, 0})
			case 8: // SUBSCRIBE, to one filter
				theirs.Write([]byte{0x90, 3, body[0], body[1], 1})
			case 14: // DISCONNECT
				return
			}
			select {
			case <-s.deaf:
				<-s.over
				return
			default:
			}
		}
	}()
	return ours, nil
}

// What hangs is left behind, and said.
func TestTheEndHasABoundWhateverHangs(t *testing.T) {
	for name, c := range map[string]struct {
		spool, deaf bool
		want        []string
	}{
		"a socket, the broker":                           {want: []string{"waiting=5", "unacknowledged=2", "stopped=4"}},
		"a socket, the broker that reads nothing":        {deaf: true, want: []string{"waiting=5", "unacknowledged=4", "stopped="}},
		"a socket, the broker, the disk":                 {spool: true, want: []string{"unacknowledged=2", "on_the_way_to_disk=5", "stopped=2"}},
		"a socket, the broker that reads none, the disk": {spool: true, deaf: true, want: []string{"unacknowledged=4", "on_the_way_to_disk=5", "stopped="}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table, err := mapping.Compile([]mapping.SendRule{fake.SendRule(t, "s", "t/{id}", "239.1.1.{id}:5000")}, []mapping.ReceiveRule{
					fake.ReceiveRule(t, "r", "239.2.2.2:5000", "u"),
					fake.ReceiveRule(t, "zero", "239.2.2.3:5000", "v", func(r *mapping.ReceiveRule) { r.QoS = 0 }),
				})
				if err != nil {
					t.Fatal(err)
				}
				var log bytes.Buffer
				server := &sickBroker{make(chan struct{}), make(chan struct{})}
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
				o := Options{Table: table, QueueSize: fake.Plenty, Logger: slog.New(slog.NewTextHandler(&log, nil)), network: of(n),
					Session: session.Options{URLs: []string{"mqtt://memory:1883"}, ClientID: "test", Dial: server.dial}}
				release := make(chan struct{})
				if c.spool {
					o.Spool = Spool{On: fake.OpenSpool(t, t.TempDir(), 16<<20), Dir: "dir"}
				}
				b, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				ctx, end := context.WithCancel(t.Context())
				ran := make(chan error, 1)
				go func() { ran <- b.Run(ctx) }()
				synctest.Wait()
				if r := b.Readiness(); !r.Ready {
					t.Fatalf("not ready: %v", r.Conditions)
				}
				if c.spool { // nothing is written while a callback lasts
					hangs := make(chan struct{})
					o.Spool.On.Queue("another").Append(spool.Record{Topic: []byte("t")}, func(error) {
						close(hangs)
						<-release
					})
					<-hangs
				}
				n.LastSocket().Allow(0, nil)
				<-n.LastSocket().Free
				b.send.Handle([]session.Message{fake.Message("t/1", "a", 1), fake.Message("t/1", "b", 1), fake.Message("t/2", "c", 2), fake.Message("t/1", "d", 0), fake.Message("t/2", "e", 0)})
				if c.deaf {
					close(server.deaf)
				}
				for _, r := range n.OpenReceivers() {
					r.Hear(fake.Device, "x", "y")
				}
				synctest.Wait()
				began := time.Now()
				end()
				err = <-ran
				if took := time.Since(began); err != nil || took > theEnd.closed+theEnd.linger {
					t.Errorf("took %v, ended with %v", took, err)
				}
				close(release)
				close(server.over)
				if c.spool {
					o.Spool.On.Close()
				}
				synctest.Wait()
				_, said, _ := strings.Cut(log.String(), "has left something undone")
				for _, want := range c.want {
					if !strings.Contains(said, want) {
						t.Errorf("does not say %s: %s", want, said)
					}
				}
			})
		})
	}
}

// A system call that does not return holds locks, which other bindings do not need.
func TestASendThatHangsDelaysTheEndOfNoOtherBinding(t *testing.T) {
	var log bytes.Buffer
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	o := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "hangs", "a", "239.1.1.1:5000"), fake.SendRule(t, "well", "b", "239.1.1.2:5000", fake.OnPriv)).options
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.Spool = Spool{On: fake.OpenSpool(t, t.TempDir(), 16<<20), Dir: "dir"}
	// Each step has long enough for a loaded machine.
	o.end = endTimes{900 * time.Millisecond, 1200 * time.Millisecond, 1500 * time.Millisecond, 1800 * time.Millisecond, 600 * time.Millisecond}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	up := func(i int) bool { return b.Status().Rules[i].State == account.StateUp }
	fake.WaitFor(t, "the sockets", func() bool { return up(0) && up(1) })
	hangs, well := n.SocketOn("iso0"), n.SocketOn("priv0")
	well.Allow(0, nil)
	<-well.Free
	b.send.Handle([]session.Message{fake.Message("b", "1", 1), fake.Message("b", "2", 1)})
	release, hanging := make(chan struct{}), make(chan struct{})
	hangs.OnSend = sync.OnceFunc(func() {
		close(hanging)
		<-release
	})
	var handled sync.WaitGroup
	handled.Go(func() { b.send.Handle([]session.Message{fake.Message("a", "1", 1)}) })
	<-hanging
	end()
	select {
	case <-ran:
	case <-time.After(20 * time.Second):
		t.Error("Run does not return")
	}
	well.Mu.Lock()
	closed := well.Closed
	well.Mu.Unlock()
	if !closed || b.options.Spool.On.Len() != 2 {
		t.Errorf("the other socket is closed: %v; %d messages of it are in the spool, want 2", closed, b.options.Spool.On.Len())
	}
	if got := log.String(); !strings.Contains(got, "the sockets") {
		t.Errorf("does not say what hangs: %s", got)
	}
	close(release)
	handled.Wait()
}

// A drain that begins while the end is under way, as one does when the spool tells that a
// message is safe, is waited for like one that was there before: Run leaves no goroutine
// behind, unless it hangs for longer than the end may take.
func TestTheEndWaitsForADrainThatBeginsLate(t *testing.T) {
	for name, hangs := range map[string]bool{"it ends in time": false, "it hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
				o := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "first", "a", "239.1.1.1:5000"), fake.SendRule(t, "second", "b", "239.1.1.2:5000", fake.OnPriv)).options
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				b, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				ctx, end := context.WithCancel(t.Context())
				ran := make(chan error, 1)
				go func() { ran <- b.Run(ctx) }()
				synctest.Wait()
				first, second := n.SocketOn("iso0"), n.SocketOn("priv0")
				for _, s := range []*fake.Socket{first, second} {
					s.Allow(0, nil)
					<-s.Free
				}
				b.send.Handle([]session.Message{fake.Message("a", "1", 1)}) // the end waits for it
				began := time.Now()
				end()
				time.Sleep(theEnd.drained / 2)
				waits, release := make(chan struct{}), make(chan struct{})
				second.OnWait = func() {
					close(waits)
					<-release
				}
				b.send.Handle([]session.Message{fake.Message("b", "1", 1)})
				<-waits
				time.Sleep(time.Until(began.Add((theEnd.left + theEnd.closed) / 2)))
				synctest.Wait()
				if len(ran) > 0 {
					t.Error("Run has returned, and a goroutine of it is still at work")
				}
				if !hangs {
					close(release)
				}
				<-ran
				if said := strings.Contains(log.String(), `hangs="the sockets"`); said != hangs {
					t.Errorf("says that it hangs: %v, want %v: %s", said, hangs, log.String())
				}
				if took := time.Since(began); hangs != (took >= theEnd.closed) || took > theEnd.closed+theEnd.linger {
					t.Errorf("took %v", took)
				}
				second.Mu.Lock()
				if !second.Closed {
					t.Error("its socket is open")
				}
				second.Mu.Unlock()
				if hangs {
					close(release)
				}
			})
		})
	}
}

func TestTheStepsOfTheEndFitIntoItsTime(t *testing.T) {
	steps := []time.Duration{0, theEnd.drained, theEnd.spilled, theEnd.left, theEnd.closed, EndLimit - 500*time.Millisecond}
	for i, at := range steps[1:] {
		if at <= steps[i] {
			t.Errorf("step %d is to be over at %v, the one before at %v", i+1, at, steps[i])
		}
	}
	if atLeast := session.LeaveTimeout; theEnd.left-theEnd.spilled < atLeast {
		t.Errorf("there are %v to leave the broker, which takes up to %v", theEnd.left-theEnd.spilled, atLeast)
	}
}
