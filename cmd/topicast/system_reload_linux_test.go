package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// While the interface is away two rules swap their names, and one gets another one: at a
// reload and over a restart, in memory and on disk. All that waits leaves all the same, and
// what waited for a rule that is gone is counted under its name.
func TestWhatWaitsFollowsARuleThatGetsAnotherName(t *testing.T) {
	t.Parallel() // it waits most of the time
	rules := func(a, b string) string {
		return fmt.Sprintf("  - { name: %s, filter: a, group: '239.1.1.1:5000', source: 172.17.0.1, interface: iso0 }\n"+
			"  - { name: %s, filter: b, group: '239.1.1.2:5000', source: 172.17.0.1, interface: iso0 }\n", a, b)
	}
	const gone = "  - { name: gone, filter: c, group: '239.1.1.3:5000', source: 172.17.0.1, interface: iso0 }\n"
	for _, way := range []string{"in memory", "on disk", "over a restart"} {
		t.Run(way, func(t *testing.T) {
			s := newSystem(t, rules("one", "two")+gone)
			if way != "in memory" {
				s.edit("send:", "spool: { dir: "+t.TempDir()+" }\nsend:")
			}
			device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.1.1:5000"), netip.MustParseAddrPort("239.1.1.2:5000"))
			s.startBroker("max_inflight_messages 0")
			p := s.startBridge()
			s.ready()
			publisher := s.client("backend")
			s.GW.Down("iso0")
			s.ruleBecomes("one", "pending")
			const each = 20
			for n := range each {
				for _, topic := range []string{"a", "b", "c"} {
					s.publish(publisher, topic, netlab.Numbered(topic, n))
				}
			}
			s.eventually("all waits", func() error {
				waiting := 0
				for _, r := range s.status().Rules {
					waiting += r.WaitingMemory + r.WaitingDisk
				}
				if waiting != 3*each {
					return fmt.Errorf("%d wait", waiting)
				}
				return nil
			})
			for i, names := range [][2]string{{"two", "one"}, {"two", "new"}} {
				if way == "over a restart" {
					if err := p.Stop(); err != nil {
						t.Fatal(err)
					}
				}
				s.edit(gone, "")
				s.edit(map[int]string{0: rules("one", "two"), 1: rules("two", "one")}[i], rules(names[0], names[1]))
				if way == "over a restart" {
					p = s.startBridge()
					continue
				}
				s.eventually("the reload", func() error {
					if got := s.status().Reload; got == nil || got.Count != i+1 {
						return fmt.Errorf("%+v", got)
					}
					return nil
				})
			}
			if got := s.metrics()[`topicast_drops_total{direction="send",rule="gone",reason="removed"}`]; way == "in memory" && got != each {
				t.Errorf("%v counted as removed of the rule that is gone, want %d", got, each)
			}
			s.GW.Up("iso0")
			var tally netlab.Tally
			device.Watch(func(r netlab.Received) bool {
				tally.Note(r.Payload)
				return tally.Received-tally.Duplicates == 2*each || t.Failed()
			})
			for _, topic := range []string{"a", "b"} {
				if missing := tally.Missing(topic, each); missing != nil || tally.Disorders > 0 {
					t.Errorf("missing %v; %v", missing, &tally)
				}
			}
			for _, r := range s.status().Rules {
				if r.Drops != nil {
					t.Errorf("rule %s: drops %v", r.Name, r.Drops)
				}
			}
		})
	}
}

// A filter that was changed while topicast did not run leaves no subscription behind by which the broker hands
// out each message twice.
func TestAFilterThatIsChangedBetweenTwoRunsLeavesNoSubscription(t *testing.T) {
	t.Parallel()
	rule := func(filter string) string {
		return "  - { name: lamps, filter: '" + filter + "', qos: 1, group: '239.1.1.1:5000', source: 172.17.0.1, interface: iso0 }\n"
	}
	const mark = "  - { name: mark, filter: mark, qos: 1, group: '239.1.1.1:5000', source: 172.17.0.1, interface: iso0 }\n"
	s := newSystem(t, rule("casa/+/lamp")+mark)
	s.edit("send:", "spool: { dir: "+t.TempDir()+" }\nsend:")
	s.startBroker()
	p := s.startBridge()
	s.ready()
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	s.edit(rule("casa/+/lamp"), rule("casa/3/lamp"))
	s.startBridge()
	s.ready()
	publisher := s.client("backend")
	// The old one goes when the new one is granted: until then a message may come twice.
	s.eventually("each message once", func() error {
		before, marks := s.rule("lamps").Received, s.rule("mark").Received
		s.publish(publisher, "casa/3/lamp", []byte("on"))
		s.publish(publisher, "mark", []byte("behind it"))
		s.eventually("what is behind it", func() error {
			if s.rule("mark").Received == marks {
				return errors.New("nothing came")
			}
			return nil
		})
		if got := s.rule("lamps").Received - before; got != 1 {
			return fmt.Errorf("it came %d times", got)
		}
		return nil
	})
}

// edit changes the file of the configuration.
func (s *system) edit(old, new string) {
	s.t.Helper()
	was, err := os.ReadFile(s.config)
	if err == nil {
		err = os.WriteFile(s.config, []byte(strings.Replace(string(was), old, new, 1)), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
