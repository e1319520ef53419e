package receive_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// twoRules publish on topic t, of two groups.
func twoRules(t *testing.T, a, b func(*mapping.ReceiveRule)) []mapping.ReceiveRule {
	return []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "t", a), fake.ReceiveRule(t, "b", "239.1.1.2:5000", "t", b)}
}

// heardBy is a step of a script: what a rule hears after a while.
type heardBy struct {
	after time.Duration
	rule  string
	say   string
}

func play(t *testing.T, n *fake.Network, steps []heardBy) {
	for _, s := range steps {
		time.Sleep(s.after)
		synctest.Wait()
		n.At(map[string]string{"a": "239.1.1.1:5000", "b": "239.1.1.2:5000"}[s.rule], "iso0").Hear(fake.Device, s.say)
		synctest.Wait()
	}
}

func TestRulesOfOneTopicShareWhatWasPublished(t *testing.T) {
	onChange := func(r *mapping.ReceiveRule) { r.OnChange = true }
	every := func(d time.Duration) func(*mapping.ReceiveRule) {
		return func(r *mapping.ReceiveRule) { r.Every = d }
	}
	both := func(r *mapping.ReceiveRule) { r.OnChange, r.Every = true, 2*time.Second }
	plain := func(*mapping.ReceiveRule) {}
	with := func(changes ...func(*mapping.ReceiveRule)) func(*mapping.ReceiveRule) {
		return func(r *mapping.ReceiveRule) {
			for _, c := range changes {
				c(r)
			}
		}
	}
	retain := func(r *mapping.ReceiveRule) { r.Retain = true }
	qos0 := func(r *mapping.ReceiveRule) { r.QoS = 0 }
	hex := func(r *mapping.ReceiveRule) { r.Encoding = mapping.EncodingHex }
	for _, c := range []struct {
		name  string
		a, b  func(*mapping.ReceiveRule)
		steps []heardBy
		want  []string
	}{
		{"on_change of both", onChange, onChange,
			[]heardBy{{0, "a", "1"}, {0, "b", "1"}, {0, "b", "2"}, {0, "a", "2"}, {0, "a", "1"}}, []string{"t 1", "t 2", "t 1"}},
		{"every and on_change of both", both, both,
			[]heardBy{{0, "a", "1"}, {100, "b", "1"}, {100, "a", "1"}}, []string{"t 1"}},
		{"the newest wins, whichever rule it came by", every(time.Second), every(time.Second),
			[]heardBy{{0, "a", "1"}, {100, "b", "2"}, {100, "a", "3"}, {100, "b", "4"}}, []string{"t 1", "t 4"}},
		{"each rule waits as long as it says", every(10 * time.Second), every(time.Second),
			[]heardBy{{0, "a", "1"}, {time.Second, "b", "2"}, {time.Second, "a", "3"}, {0, "b", "4"}}, []string{"t 1", "t 2", "t 4"}},
		{"a rule without either tells the others", onChange, plain,
			[]heardBy{{0, "b", "1"}, {0, "a", "1"}, {0, "b", "2"}, {0, "b", "2"}, {0, "a", "1"}}, []string{"t 1", "t 2", "t 2", "t 1"}},
		{"and what waits is older then", every(time.Second), plain,
			[]heardBy{{0, "a", "1"}, {100, "a", "2"}, {100, "b", "3"}}, []string{"t 1", "t 3"}},
		{"and is counted from", every(time.Second), plain,
			[]heardBy{{0, "b", "1"}, {100, "a", "2"}}, []string{"t 1", "t 2"}},
		{"the broker keeps nothing of the one", with(onChange, retain), onChange,
			[]heardBy{{0, "b", "1"}, {0, "a", "1"}, {0, "b", "1"}, {0, "a", "1"}}, []string{"t 1", "t 1"}},
		{"the one may have lost it", with(onChange, qos0), onChange,
			[]heardBy{{0, "a", "1"}, {0, "b", "1"}, {0, "a", "1"}}, []string{"t 1", "t 1"}},
		{"the bytes published differ", with(onChange, hex), onChange,
			[]heardBy{{0, "a", "1"}, {0, "b", "1"}}, []string{"t 31", "t 1"}},
	} {
		got := receiving(t, rigOptions{}, nil, twoRules(t, c.a, c.b), func(b *rig, n *fake.Network) {
			play(t, n, c.steps)
			time.Sleep(time.Minute)
			synctest.Wait()
		})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// A reload that adds, renames or changes a rule forgets nothing of its topic.
func TestWhatWasPublishedOnATopicOutlivesAReload(t *testing.T) {
	both := func(r *mapping.ReceiveRule) { r.OnChange, r.Every = true, 2*time.Second }
	renamed := fake.ReceiveRule(t, "renamed", "239.1.1.1:5000", "t", both)
	changed := fake.ReceiveRule(t, "a", "239.1.1.1:5000", "t", both, func(r *mapping.ReceiveRule) { r.Every = time.Second })
	for name, next := range map[string][]mapping.ReceiveRule{
		"added": twoRules(t, both, both), "renamed": {renamed}, "changed": {changed},
	} {
		got := receiving(t, rigOptions{}, nil, twoRules(t, both, both)[:1], func(b *rig, n *fake.Network) {
			play(t, n, []heardBy{{0, "a", "1"}, {100 * time.Millisecond, "a", "1"}})
			b.reload(t, nil, next)
			synctest.Wait()
			play(t, n, []heardBy{{100 * time.Millisecond, "a", "1"}, {100 * time.Millisecond, "a", "1"}})
			if name == "added" {
				play(t, n, []heardBy{{0, "b", "1"}})
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		})
		if diff := cmp.Diff([]string{"t 1"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What a rule that has neither key publishes costs nothing where no other rule of its
// topic has one; and it is known of one that a reload adds.
func TestTopicsLearnOfRulesThatPace(t *testing.T) {
	onChange := func(r *mapping.ReceiveRule) { r.OnChange = true }
	plain := func(*mapping.ReceiveRule) {}
	got := receiving(t, rigOptions{}, nil, twoRules(t, plain, plain)[:1], func(b *rig, n *fake.Network) {
		play(t, n, []heardBy{{0, "a", "1"}})
		if b.working.Rules[0].Notes("t") {
			t.Error("a topic without such rules takes note of messages")
		}
		b.reload(t, nil, twoRules(t, plain, onChange))
		play(t, n, []heardBy{{0, "a", "2"}, {0, "b", "2"}})
	})
	if diff := cmp.Diff([]string{"t 1", "t 2"}, got); diff != "" {
		t.Error(diff)
	}
}
