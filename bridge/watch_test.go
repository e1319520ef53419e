package bridge

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Where the interfaces cannot be listed, for want of file descriptors, that is tried once a
// second and said once; what has changed meanwhile counts at the first look that succeeds.
func TestInterfacesThatCannotBeListedAreAskedForOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		var log bytes.Buffer
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty, Logger: slog.New(slog.NewTextHandler(&log, nil))},
			[]mapping.SendRule{fake.SendRule(t, "r", "a", "239.1.1.1:5000")}, nil)
		var asked atomic.Int32
		var mended atomic.Bool
		list := b.options.network.interfaces
		b.options.network.interfaces = func() ([]multicast.Interface, error) {
			if asked.Add(1); !mended.Load() {
				return nil, errors.New("too many open files")
			}
			return list()
		}
		go b.followInterfaces(t.Context())
		n.Set()
		b.onLinkChange(multicast.Change{Deleted: []int{fake.Iso0.Index}})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := asked.Load(); n > 12 || strings.Count(log.String(), "cannot list the interfaces") != 1 {
			t.Errorf("asked %d times in 10 s:\n%s", n, &log)
		}
		mended.Store(true)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if r := b.Status().Rules[0]; r.State != account.StatePending {
			t.Errorf("what has changed is not known: %+v", r)
		}
	})
}

// What the disk turned away of a receive rule, for what others had for it, goes there
// within a second of when they have gone: nothing but the watch tells the rule.
func TestTheWatchHasTheDiskTriedAgainForWhatWasReceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 64 << 10
		b, n, _ := bridgeSpooling(t, t.TempDir(), 1<<30, Options{QueueSize: 1 << 28}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
		s := b.options.Spool.On
		others, goOn := fake.CrowdSpool(s, size)
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, strings.Repeat("x", size))
		fake.WaitFor(t, "a message in memory", func() bool { return b.budget.Count() == 1 })
		goOn()
		fake.WaitFor(t, "the others on disk", func() bool { return s.Len() == others && s.Undecided() == 0 })
		if got := b.budget.Count(); got != 1 {
			t.Fatalf("%d messages in memory, though nothing has told of the room", got)
		}
		began := time.Now()
		fake.Run(t, b.watch)
		fake.WaitFor(t, "the message on disk", func() bool { return s.Len() == others+1 })
		if took := time.Since(began); took > 2*countEvery { // expireEvery would do it too
			t.Errorf("it took %v", took)
		}
	})
}
