package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// vlan is an interface vlan<n>, with the address 10.0.n.1.
func vlan(n int) multicast.Interface {
	return fake.Interface(fmt.Sprint("vlan", n), 100+n, fmt.Sprintf("10.0.%d.1/24", n))
}

// by has a send rule leave by other interfaces, from the address of each.
func by(text string) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) {
		r.Binding.Interface, r.Binding.Source = text, netip.Prefix{}
	}
}

// look is what happens when the interfaces are others.
func (b *Bridge) look(t *testing.T, n *fake.Network, ifs ...multicast.Interface) {
	t.Helper()
	n.Set(ifs...)
	b.reconcile(t.Context())
	b.followHost(t.Context())
}

// states are the instances and their states.
func (b *Bridge) states() (all []string) {
	s := b.Status()
	for _, r := range s.Rules {
		all = append(all, r.Name+" "+string(r.State))
	}
	for _, r := range s.Receive {
		all = append(all, r.Name+" "+string(r.State))
	}
	return all
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestPatternsMatchWhatCanBeUsed(t *testing.T) {
	lo, port, vrf, member := fake.Interface("lo", 1, "127.0.0.1/8"), vlan(1), vlan(2), vlan(3)
	lo.Loopback, port.HeardOn, port.Master = true, "br0", "br0"
	vrf.Name, member.Master, member.VRF = "blue", "blue", true
	var names []string
	h := HostInterfaces([]multicast.Interface{lo, port, vrf, member, also(vlan(4), "office", "vlan4:1")})
	for _, i := range h.List {
		names = append(names, strings.Join(append([]string{i.Name}, i.Others...), " "))
	}
	wantLines(t, "to be matched", names, "vlan3", "vlan4 office vlan4:1")
	wantLines(t, "names", []string{h.Names["office"]}, "vlan4")
}

func TestARuleWithAListWorksByEachInterface(t *testing.T) {
	send := []mapping.SendRule{fake.SendRule(t, "lamps", "lamps", "239.1.1.1:5000", by("iso0, priv0"))}
	receive := []mapping.ReceiveRule{fake.ReceiveRule(t, "meters", "239.2.1.1:5000", "in/{interface}", onInterface("iso0, priv0"))}
	got := bridgeReceiving(t, Options{}, send, receive, func(b *Bridge, n *fake.Network) {
		m := []session.Message{fake.Message("lamps", "on", 1)}
		b.send.Handle(m)
		if m[0].Hold {
			t.Error("not acknowledged, though both have sent it")
		}
		wantLines(t, "iso0", n.From("iso0"), "239.1.1.1:5000 on")
		wantLines(t, "priv0", n.From("priv0"), "239.1.1.1:5000 on")
		for on, address := range map[string]string{"iso0": "172.17.0.1", "priv0": "10.0.0.2"} {
			if got := n.SocketOn(on).Src.Addr.String(); got != address {
				t.Errorf("%s sends from %s", on, got)
			}
		}
		n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, "a")
		synctest.Wait()
		n.At("239.2.1.1:5000", "priv0").Hear(fake.Device, "b")
		synctest.Wait()
		wantLines(t, "states", b.states(), "lamps@iso0 up", "lamps@priv0 up", "meters@iso0 up", "meters@priv0 up")
	})
	wantLines(t, "published", got, "in/iso0 a", "in/priv0 b")
}

// One of two interfaces is away: the other goes on at once, the message stays with the broker
// until both have sent it, and nothing is lost.
func TestAnInterfaceThatIsAwayDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "lamps", "lamps", "239.1.1.1:5000", by("iso0, priv0")))
		batch := func(payloads ...string) (ms []session.Message) {
			for _, p := range payloads {
				ms = append(ms, fake.Message("lamps", p, 1))
			}
			b.send.Handle(ms)
			return ms
		}
		for _, m := range batch("1", "2", "3") {
			if !m.Hold {
				t.Error("acknowledged, though priv0 has not sent it")
			}
		}
		wantLines(t, "iso0", n.From("iso0"), "239.1.1.1:5000 1", "239.1.1.1:5000 2", "239.1.1.1:5000 3")
		wantLines(t, "states", b.states(), "lamps@iso0 up", "lamps@priv0 pending")
		if c := b.conditionsOf("rule", session.State{}); len(c) != 1 || c[0].State != account.StatePending {
			t.Errorf("an interface that is named is not waited for: %+v", c)
		}
		b.look(t, n, fake.Iso0, fake.Priv0)
		synctest.Wait()
		wantLines(t, "priv0", n.From("priv0"), "239.1.1.1:5000 1", "239.1.1.1:5000 2", "239.1.1.1:5000 3")
		wantLines(t, "iso0 again", n.From("iso0"), "239.1.1.1:5000 1", "239.1.1.1:5000 2", "239.1.1.1:5000 3")
		if b.budget.Count() != 0 || batch("4")[0].Hold {
			t.Error("something waits still")
		}
	})
}

func TestAPatternTakesInterfacesThatComeLater(t *testing.T) {
	send := []mapping.SendRule{fake.SendRule(t, "lamps", "lamps", "239.1.1.1:5000", by("vlan*")), fake.SendRule(t, "other", "other", "239.1.1.2:5000")}
	receive := []mapping.ReceiveRule{fake.ReceiveRule(t, "meters", "239.2.1.1:5000", "in/{interface}", onInterface("vlan*"))}
	got := bridgeReceiving(t, Options{Spool: Spool{MaxAge: time.Hour}}, send, receive, func(b *Bridge, n *fake.Network) {
		wantLines(t, "without one", b.states(), "lamps pending", "other up", "meters pending")
		if r := b.Status().Rules[0]; r.Reason != "no interface matches vlan* (there are iso0, priv0)" || r.Rule != "" {
			t.Errorf("%+v", r)
		}
		b.numbered("lamps", 1, 2) // they go by the first that comes
		socket := n.SocketOn("iso0")
		b.look(t, n, fake.Iso0, vlan(7))
		synctest.Wait()
		wantLines(t, "what came before", n.From("vlan7"), "239.1.1.1:5000 1", "239.1.1.1:5000 2")
		wantLines(t, "with one", b.states(), "lamps@vlan7 up", "other up", "meters@vlan7 up")
		if r := b.Status().Rules[0]; r.Rule != "lamps" || r.Interface != "vlan7" {
			t.Errorf("%+v", r)
		}
		time.Sleep(instancesPause)
		b.look(t, n, fake.Iso0, vlan(7), vlan(8))
		b.numbered("lamps", 3, 3)
		wantLines(t, "vlan7", n.From("vlan7"), "239.1.1.1:5000 1", "239.1.1.1:5000 2", "239.1.1.1:5000 3")
		wantLines(t, "vlan8", n.From("vlan8"), "239.1.1.1:5000 3")
		for _, i := range []int{7, 8} {
			n.At("239.2.1.1:5000", fmt.Sprint("vlan", i)).Hear(fake.Device, "x")
			synctest.Wait()
		}
		if n.SocketOn("iso0") != socket {
			t.Error("another rule has another socket")
		}
	})
	wantLines(t, "published", got, "in/vlan7 x", "in/vlan8 x")
}

// An interface that flaps is waited for: the rule is not made anew, and what comes meanwhile
// leaves when it is back. One that is gone for longer than a message may wait is given up.
func TestAnInterfaceOfAPatternThatGoesIsWaitedForAsLongAsItsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{vlan(7), vlan(8)}}
		o := Options{QueueSize: fake.Plenty, Spool: Spool{MaxAge: 5 * time.Minute}}
		b := newTestBridgeOf(t, n, o, []mapping.SendRule{fake.SendRule(t, "lamps", "lamps", "239.1.1.1:5000", by("vlan*"), fake.MaxAge(10*time.Minute))},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "meters", "239.2.1.1:5000", "in", onInterface("vlan*"))})
		b.look(t, n, vlan(7), vlan(8))
		g := b.current()
		b.look(t, n, vlan(8))
		b.numbered("lamps", 1, 2)
		wantLines(t, "away", b.states(), "lamps@vlan7 pending", "lamps@vlan8 up", "meters@vlan7 pending", "meters@vlan8 up")
		if c := b.conditionsOf("rule", session.State{}); len(c) != 2 || c[0].State != account.StateDegraded {
			t.Errorf("an interface that nobody named keeps topicast from being ready: %+v", c)
		}
		b.look(t, n, vlan(7), vlan(8))
		synctest.Wait()
		wantLines(t, "back", n.From("vlan7"), "239.1.1.1:5000 1", "239.1.1.1:5000 2")
		if b.current() != g {
			t.Error("the rules were made anew")
		}

		later := func(d time.Duration, ifs ...multicast.Interface) {
			for ; d > 0; d -= awayEvery {
				time.Sleep(awayEvery)
				b.look(t, n, ifs...)
			}
		}
		b.look(t, n, vlan(8))
		b.numbered("lamps", 3, 3)
		later(5*time.Minute+awayEvery, vlan(8))
		wantLines(t, "nothing is to be heard for so long", b.states(), "lamps@vlan7 pending", "lamps@vlan8 up", "meters@vlan8 up")
		later(5*time.Minute+awayEvery, vlan(8))
		wantLines(t, "gone for good", b.states(), "lamps@vlan8 up", "meters@vlan8 up")
		if b.budget.Count() != 0 {
			t.Error("something waits for it")
		}
		later(awayEvery)
		wantLines(t, "none is there", b.states(), "lamps@vlan8 pending", "meters@vlan8 pending")
		if c := b.conditionsOf("rule", session.State{}); len(c) != 2 || c[0].State != account.StatePending {
			t.Errorf("ready, with no interface: %+v", c)
		}
		later(11 * time.Minute)
		wantLines(t, "as at the start", b.states(), "lamps pending", "meters pending")
	})
}

// A flood of new interfaces has the rules made anew once a second, not for each.
func TestAFloodOfInterfacesIsNoFloodOfGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "lamps", "lamps", "239.1.1.1:5000", by("vlan*")))
		go b.followInterfaces(t.Context())
		made := make(map[*generation]bool)
		for i := range 200 {
			n.Set(vlan(i + 1))
			b.onLinkChange(multicast.Change{})
			time.Sleep(50 * time.Millisecond)
			made[b.current()] = true
		}
		if len(made) > 12 {
			t.Errorf("%d generations in 10 s", len(made))
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := b.states(); !slices.Contains(got, "lamps@vlan200 up") {
			t.Errorf("the last one is not there: %v", got)
		}
	})
}

func TestMoreInterfacesThanARuleMayHaveAreTold(t *testing.T) {
	n := &fake.Network{}
	for i := range mapping.MaxInterfaces + 3 {
		n.Present = append(n.Present, fake.Interface(fmt.Sprint("vlan", i), 100+i, fmt.Sprintf("10.%d.%d.1/24", i/200, i%200)))
	}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "lamps", "lamps", "239.1.1.1:5000", by("vlan*")))
	c := b.conditionsOf("interfaces", session.State{})
	if len(b.Status().Rules) != mapping.MaxInterfaces || len(c) != 1 || c[0].State != account.StateDegraded || !strings.Contains(c[0].Reason, "rule lamps works by 256") {
		t.Errorf("%d rules; %+v", len(b.Status().Rules), c)
	}
}

// What waits goes where its interface is now: over a reload that changes the rule, one that makes
// a list of its one interface, and one that takes that back.
func TestAReloadKeepsWhatWaitsForEachInterface(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprint("disk=", disk), func(t *testing.T) {
			rule := func(group, on string) []mapping.SendRule {
				return []mapping.SendRule{fake.SendRule(t, "lamps", "lamps", group, by(on))}
			}
			n := &fake.Network{}
			o := Options{QueueSize: fake.Plenty}
			if disk {
				o.Spool = Spool{On: fake.OpenSpool(t, t.TempDir(), 1<<20), Dir: "dir"}
			}
			b := newTestBridgeOf(t, n, o, rule("239.1.1.1:5000", "iso0"), nil)
			waits := func(want ...string) {
				t.Helper()
				if disk {
					b.allOnDisk(t)
				}
				var got []string
				for _, r := range b.Status().Rules {
					got = append(got, fmt.Sprint(r.Name, " ", r.WaitingMemory+r.WaitingDisk))
				}
				wantLines(t, "waiting", got, want...)
			}
			b.numbered("lamps", 1, 1)
			waits("lamps 1")
			b.reload(t, rule("239.1.1.1:5000", "priv0, iso0"), nil)
			waits("lamps@priv0 0", "lamps@iso0 1")
			b.numbered("lamps", 2, 2)
			waits("lamps@priv0 1", "lamps@iso0 2")
			b.reload(t, rule("239.1.1.2:5000", "iso0, priv0"), nil)
			waits("lamps@iso0 2", "lamps@priv0 1")
			b.look(t, n, fake.Iso0, fake.Priv0)
			fake.WaitFor(t, "all to leave", func() bool { return n.Count("239.1.1.2:5000") == 3 })
			wantLines(t, "iso0", n.From("iso0"), "239.1.1.2:5000 1", "239.1.1.2:5000 2")
			wantLines(t, "priv0", n.From("priv0"), "239.1.1.2:5000 2")
			b.look(t, n)
			b.numbered("lamps", 3, 3)
			waits("lamps@iso0 1", "lamps@priv0 1")
			b.reload(t, rule("239.1.1.2:5000", "iso0"), nil)
			waits("lamps 1")
		})
	}
}

// What an earlier process has left on disk for an interface leaves by it when it comes, and the
// rule waits for it, though only a pattern names it; what it has left for the broker, the broker
// gets.
func TestARestartFindsWhatWaitsForEachInterface(t *testing.T) {
	for _, text := range []string{"vlan7, vlan8", "vlan*"} {
		t.Run(text, func(t *testing.T) {
			dir := t.TempDir()
			rules := []mapping.SendRule{fake.SendRule(t, "lamps", "lamps", "239.1.1.1:5000", by(text))}
			hear := fake.ReceiveRule(t, "meters", "239.2.1.1:5000", "in/{interface}", onInterface(text))
			run := func(f func(*Bridge, *fake.Network, *fake.Publisher)) {
				o := Options{Spool: Spool{Dir: dir, MaxAge: time.Hour}}
				b, n, p := bridgeSpooling(t, dir, 1<<20, o, rules, hear)
				f(b, n, p)
				if err := b.options.Spool.On.Close(); err != nil {
					t.Fatal(err)
				}
			}
			run(func(b *Bridge, n *fake.Network, _ *fake.Publisher) {
				b.look(t, n, vlan(7), vlan(8))
				n.At("239.2.1.1:5000", "vlan7").Hear(fake.Device, "x")
				b.look(t, n, vlan(8))
				b.numbered("lamps", 1, 2)
				b.receive.SpillAll(t.Context(), func() bool { return true })
				fake.WaitFor(t, "three on disk", func() bool { return b.options.Spool.On.Len() == 3 && b.options.Spool.On.Undecided() == 0 })
			})
			run(func(b *Bridge, n *fake.Network, p *fake.Publisher) {
				b.look(t, n, vlan(8))
				b.numbered("lamps", 3, 3)
				wantLines(t, "states", b.states(), "lamps@vlan7 pending", "lamps@vlan8 up", "meters@vlan7 pending", "meters@vlan8 up")
				b.connect(true)
				fake.WaitFor(t, "what was for the broker", func() bool { return slices.Equal(p.Published(), []string{"in/vlan7 x"}) })
				b.look(t, n, vlan(7), vlan(8))
				fake.WaitFor(t, "what waited for vlan7", func() bool { return len(n.From("vlan7")) == 3 })
				wantLines(t, "vlan7", n.From("vlan7"), "239.1.1.1:5000 1", "239.1.1.1:5000 2", "239.1.1.1:5000 3")
				wantLines(t, "vlan8", n.From("vlan8"), "239.1.1.1:5000 3")
			})
		})
	}
}

func TestMetricsHaveTheRuleAndItsInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, []mapping.SendRule{
			fake.SendRule(t, "lamps", "lamps/{id}", "239.1.1.{id}:5000", by("iso0, priv0")), fake.SendRule(t, "plain", "plain", "239.1.1.1:5000")},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "meters", "239.2.1.1:5000", "in", onInterface("iso0, priv0"))})
		b.send.Handle([]session.Message{fake.Message("lamps/1", "on", 1), fake.Message("lamps/300", "on", 1)})
		has := func(lines ...string) {
			t.Helper()
			text := b.exposed(t)
			for _, line := range lines {
				if !strings.Contains(text, line+"\n") {
					t.Errorf("no %s in\n%s", line, text)
				}
			}
		}
		has(`topicast_datagrams_sent_total{rule="lamps",interface="iso0"} 1`, `topicast_datagrams_sent_total{rule="lamps",interface="priv0"} 1`,
			`topicast_datagrams_sent_total{rule="plain"} 0`,
			`topicast_rule_state{rule="meters",state="up",interface="priv0"} 1`,
			`topicast_drops_total{direction="send",rule="lamps",reason="bad_group",interface="iso0"} 1`,
			`topicast_rule_source_verified{rule="lamps",interface="iso0"} 0`)
		b.reload(t, []mapping.SendRule{fake.SendRule(t, "lamps", "lamps/{id}", "239.1.1.{id}:5000", by("iso0, iso0, new0"))}, nil)
		has(`topicast_drops_total{direction="send",rule="lamps",reason="bad_group",interface="iso0"} 1`,
			`topicast_drops_total{direction="send",rule="lamps",reason="bad_group",interface="priv0"} 1`) // which is gone
	})
}
