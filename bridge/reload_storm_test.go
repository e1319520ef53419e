package bridge

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// stormTables are three tables between which every rule changes something: its
// binding, its policy, its groups, its order, its loop.
func stormTables(t testing.TB) (tables []*mapping.Table) {
	for i := range 3 {
		ttl := func(r *mapping.SendRule) { r.Binding.TTL = uint8(1 + i) }
		port := func(r *mapping.SendRule) { r.Binding.SourcePort = uint16(7000 + i/2) }
		on := []func(*mapping.SendRule){func(*mapping.SendRule) {}, onPriv, ttl}[i]
		send := []mapping.SendRule{
			rule(t, "kept", "kept", "239.1.1.1:5000"),
			rule(t, "moved", "moved", fmt.Sprintf("239.1.1.%d:5000", 2+i), on),
			rule(t, "port", "port", "239.1.1.9:5000", port, ttl),
		}
		receive := []mapping.ReceiveRule{
			listenRule(t, "in", "239.2.1.1:5000", "in"),
			listenRule(t, "on and off", "239.2.1.2:5000", "more", func(r *mapping.ReceiveRule) { r.Retain = i == 1 }),
		}
		if i == 1 {
			send[0], send[2] = send[2], send[0]
			receive = append(receive, listenRule(t, "too", "239.2.1.1:5000", "too", func(r *mapping.ReceiveRule) { r.QoS = 0 })) // it leaves nothing behind on disk
		}
		if i == 2 {
			receive[0], receive[1] = receive[1], receive[0]
			send = append(send, rule(t, "too", "more", "239.2.1.2:5000")) // a cycle
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
	var n *fakeNetwork
	var p *fakePublisher
	o := Options{QueueSize: 256 << 20, Loops: Loops{Guard: true, Memory: 1 << 16, Time: 10 * time.Second, Hold: time.Millisecond}}
	send, receive := tables[0].Send(), tables[0].Receive()
	if disk {
		b, n, p = detouring(t, t.TempDir(), 256<<20, o, send, receive...)
	} else {
		n = &fakeNetwork{}
		n.set(iso0)
		b = newTestBridgeOf(t, n, o, send, receive)
		p = b.receive.publisher.(*fakePublisher)
	}
	n.set(iso0, priv0)
	b.connect(true)
	b.refresh(t.Context())
	goroutines := 0

	end := make(chan struct{})
	var traffic sync.WaitGroup
	sent, heard := 0, 0
	traffic.Go(func() {
		for !over(end) {
			var batch []session.Message
			for range 8 {
				for _, topic := range []string{"kept", "moved", "port"} {
					batch = append(batch, message(topic, fmt.Sprint(sent), 1))
				}
				sent++
			}
			b.send.handle(batch)
			time.Sleep(200 * time.Microsecond)
		}
	})
	traffic.Go(func() {
		r := n.at("239.2.1.1:5000", "iso0")
		for !over(end) {
			r.hear(device, fmt.Sprint(heard), fmt.Sprint(heard+1))
			heard += 2
			time.Sleep(200 * time.Microsecond)
		}
	})
	traffic.Go(func() {
		for i := 0; !over(end); i++ { // the interfaces and the broker come and go
			if i%16 == 8 {
				n.set(iso0)
				b.connect(!disk)
			} else if i%16 == 12 {
				n.set(iso0, priv0)
				b.connect(true)
			}
			b.refresh(t.Context())
			_ = b.Status()
			p.acknowledge()
			b.tidy(time.Now())
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
	n.set(iso0, priv0)
	b.connect(true)
	if err := b.Reload(t.Context(), tables[0]); err != nil {
		t.Error(err)
	}
	for _, topic := range []string{"kept", "moved", "port"} {
		waitFor(t, "all of "+topic, func() bool { return n.count(topic) >= sent })
		n.inOrder(t, topic, sent)
	}
	var in []string
	waitFor(t, "all that was heard", func() bool {
		p.acknowledge()
		in = in[:0]
		for _, line := range p.published() {
			if strings.HasPrefix(line, "in ") {
				in = append(in, line)
			}
		}
		return len(in) >= heard
	})
	inOrder(t, in, heard-1)
	waitFor(t, "an empty queue and disk", func() bool {
		p.acknowledge()
		return b.Status().Queue.Messages == 0 && (!disk || b.options.Spool.On.Len() == 0)
	})
	waitFor(t, "as few goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines+3 })
	if _, _, inUse := n.opened(); inUse != len(b.parts().bindings)+len(b.parts().memberships) {
		t.Errorf("%d sockets are open, for %d bindings and %d groups", inUse, len(b.parts().bindings), len(b.parts().memberships))
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

func (n *fakeNetwork) count(topic string) (count int) {
	n.logging.Lock()
	defer n.logging.Unlock()
	for _, g := range groups[topic] {
		count += len(n.log[g])
	}
	return count
}

// inOrder wants all numbers of a topic below sent once, as the host's sockets sent
// them one after the other.
func (n *fakeNetwork) inOrder(t *testing.T, topic string, sent int) {
	t.Helper()
	n.logging.Lock()
	defer n.logging.Unlock()
	var next int
	var at [4]int
	for next < sent {
		found := false
		for i, g := range groups[topic] {
			if at[i] < len(n.log[g]) && n.log[g][at[i]] == fmt.Sprint(next) {
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
		if more := n.log[g][at[i]:]; len(more) > 0 {
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
			send[j] = rule(b, fmt.Sprint("rule-", j), fmt.Sprintf("site/%d/lamp/set", j), "239.1.1.1:5000")
		}
		for j := range receive {
			receive[j] = listenRule(b, fmt.Sprint("meter-", j), fmt.Sprintf("239.2.%d.%d:5000", j>>8, j&255), fmt.Sprint("meters/", j))
		}
		send[77] = rule(b, "rule-77", "site/77/lamp/set", fmt.Sprintf("239.1.1.%d:5000", 2+i))
		var err error
		if tables[i], err = mapping.Compile(send, receive); err != nil {
			b.Fatal(err)
		}
	}
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	bridge := newTestBridgeOf(b, n, Options{QueueSize: plenty}, tables[0].Send(), tables[0].Receive())
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		if err := bridge.Reload(b.Context(), tables[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}
