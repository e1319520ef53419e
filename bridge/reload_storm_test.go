package bridge

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// stormTables are three tables between which every rule changes something: its
// binding, its policy, its groups, its order, its loop.
func stormTables(t testing.TB) (tables []*mapping.Table) {
	for i := range 3 {
		ttl := func(r *mapping.SendRule) { r.Binding.TTL = uint8(1 + i) }
		port := func(r *mapping.SendRule) { r.Binding.SourcePort = uint16(7000 + i/2) }
		on := []func(*mapping.SendRule){func(*mapping.SendRule) {}, fake.OnPriv, ttl}[i]
		send := []mapping.SendRule{
			fake.SendRule(t, "kept", "kept", "239.1.1.1:5000"),
			fake.SendRule(t, "moved", "moved", fmt.Sprintf("239.1.1.%d:5000", 2+i), on),
			fake.SendRule(t, "port", "port", "239.1.1.9:5000", port, ttl),
		}
		receive := []mapping.ReceiveRule{
			fake.ReceiveRule(t, "in", "239.2.1.1:5000", "in"),
			fake.ReceiveRule(t, "on and off", "239.2.1.2:5000", "more", func(r *mapping.ReceiveRule) { r.Retain = i == 1 }),
		}
		if i == 1 {
			send[0], send[2] = send[2], send[0]
			receive = append(receive, fake.ReceiveRule(t, "too", "239.2.1.1:5000", "too", func(r *mapping.ReceiveRule) { r.QoS = 0 })) // it leaves nothing behind on disk
		}
		if i == 2 {
			receive[0], receive[1] = receive[1], receive[0]
			send = append(send, fake.SendRule(t, "too", "more", "239.2.1.2:5000")) // a cycle
		}
		table, err := mapping.Compile(send, receive)
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
	}
	return tables
}

func TestAStormOfReloadsLosesNothingAndKeepsTheOrder(t *testing.T) {
	tables := stormTables(t)
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk=%v", disk), func(t *testing.T) {
			storm(t, tables, disk)
		})
	}
}

func storm(t *testing.T, tables []*mapping.Table, disk bool) {
	var b *Bridge
	var n *fake.Network
	var p *fake.Publisher
	o := Options{QueueSize: 256 << 20, Loops: loopguard.Options{Guard: true, Memory: 1 << 16, Time: 10 * time.Second, Delay: time.Millisecond}}
	send, receive := tables[0].Send(), tables[0].Receive()
	if disk {
		b, n, p = bridgeSpooling(t, t.TempDir(), 256<<20, o, send, receive...)
	} else {
		n = &fake.Network{}
		n.Set(fake.Iso0)
		b = newTestBridgeOf(t, n, o, send, receive)
		p = publisherOf(b)
	}
	n.Set(fake.Iso0, fake.Priv0)
	b.connect(true)
	b.reconcile(t.Context())
	goroutines := 0

	end := make(chan struct{})
	var traffic sync.WaitGroup
	sent, heard := 0, 0
	traffic.Go(func() {
		for !over(end) {
			var batch []session.Message
			for range 8 {
				for _, topic := range []string{"kept", "moved", "port"} {
					batch = append(batch, fake.Message(topic, fmt.Sprint(sent), 1))
				}
				sent++
			}
			b.send.Handle(batch)
			time.Sleep(200 * time.Microsecond)
		}
	})
	traffic.Go(func() {
		r := n.At("239.2.1.1:5000", "iso0")
		for !over(end) {
			r.Hear(fake.Device, fmt.Sprint(heard), fmt.Sprint(heard+1))
			heard += 2
			time.Sleep(200 * time.Microsecond)
		}
	})
	traffic.Go(func() {
		for i := 0; !over(end); i++ { // the interfaces and the broker come and go
			if i%16 == 8 {
				n.Set(fake.Iso0)
				b.connect(!disk)
			} else if i%16 == 12 {
				n.Set(fake.Iso0, fake.Priv0)
				b.connect(true)
			}
			b.reconcile(t.Context())
			_ = b.Status()
			p.Acknowledge()
			b.send.ExpireOld()
			time.Sleep(time.Millisecond)
		}
	})
	for i := range 300 {
		if err := b.Reload(t.Context(), tables[i%3]); err != nil {
			t.Error(err)
		}
		if i == 30 {
			goroutines = runtime.NumGoroutine()
		}
		time.Sleep(time.Millisecond)
	}
	close(end)
	traffic.Wait()
	n.Set(fake.Iso0, fake.Priv0)
	b.connect(true)
	if err := b.Reload(t.Context(), tables[0]); err != nil {
		t.Error(err)
	}
	for _, topic := range []string{"kept", "moved", "port"} {
		fake.WaitFor(t, "all of "+topic, func() bool { return n.Count(groups[topic]...) >= sent })
		sentInOrder(t, n, topic, sent)
	}
	var in []string
	fake.WaitFor(t, "all that was heard", func() bool {
		p.Acknowledge()
		in = in[:0]
		for _, line := range p.Published() {
			if strings.HasPrefix(line, "in ") {
				in = append(in, line)
			}
		}
		return len(in) >= heard
	})
	fake.InOrder(t, in, heard-1)
	fake.WaitFor(t, "an empty queue and disk", func() bool {
		p.Acknowledge()
		return b.Status().Queue.Messages == 0 && (!disk || b.options.Spool.On.Len() == 0)
	})
	fake.WaitFor(t, "as few goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines+3 })
	if _, _, inUse := n.Opened(); inUse != b.current().send.Sockets()+sockets(b) {
		t.Errorf("%d sockets are open, for %d bindings and %d groups", inUse, b.current().send.Sockets(), sockets(b))
	}
	for _, r := range b.Status().Rules {
		if r.Drops != nil {
			t.Errorf("rule %s: drops %v", r.Name, r.Drops)
		}
	}
}

func over(end chan struct{}) bool {
	select {
	case <-end:
		return true
	default:
		return false
	}
}

// groups are those a rule of the storm sends to.
var groups = map[string][]string{"kept": {"239.1.1.1:5000"}, "moved": {"239.1.1.2:5000", "239.1.1.3:5000", "239.1.1.4:5000"}, "port": {"239.1.1.9:5000"}}

// sentInOrder wants all numbers of a topic below sent once, as the host's sockets sent
// them one after the other.
func sentInOrder(t *testing.T, n *fake.Network, topic string, sent int) {
	t.Helper()
	n.Logging.Lock()
	defer n.Logging.Unlock()
	var next int
	var at [4]int
	for next < sent {
		found := false
		for i, g := range groups[topic] {
			if at[i] < len(n.Sent[g]) && n.Sent[g][at[i]] == fmt.Sprint(next) {
				at[i]++
				next++
				found = true
				break
			}
		}
		if !found {
			t.Fatalf("%s: %d of %d is not next at any group: %v", topic, next, sent, at)
		}
	}
	for i, g := range groups[topic] {
		if more := n.Sent[g][at[i]:]; len(more) > 0 {
			t.Errorf("%s: sent twice: %q", topic, more)
		}
	}
}

func BenchmarkReload(b *testing.B) {
	const rules = 10_000
	tables := make([]*mapping.Table, 2)
	for i := range tables {
		send := make([]mapping.SendRule, rules)
		receive := make([]mapping.ReceiveRule, rules/10)
		for j := range send {
			send[j] = fake.SendRule(b, fmt.Sprint("rule-", j), fmt.Sprintf("site/%d/lamp/set", j), "239.1.1.1:5000")
		}
		for j := range receive {
			receive[j] = fake.ReceiveRule(b, fmt.Sprint("meter-", j), fmt.Sprintf("239.2.%d.%d:5000", j>>8, j&255), fmt.Sprint("meters/", j))
		}
		send[77] = fake.SendRule(b, "rule-77", "site/77/lamp/set", fmt.Sprintf("239.1.1.%d:5000", 2+i))
		var err error
		if tables[i], err = mapping.Compile(send, receive); err != nil {
			b.Fatal(err)
		}
	}
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	bridge := newTestBridgeOf(b, n, Options{QueueSize: fake.Plenty}, tables[0].Send(), tables[0].Receive())
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		if err := bridge.Reload(b.Context(), tables[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}

// sockets is how many groups the receive rules of a bridge listen to.
func sockets(b *Bridge) (n int) {
	for _, r := range b.Status().Receive {
		n += r.Sockets
	}
	return n
}
