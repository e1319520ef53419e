package send_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// What waits for its time does not leave while its rule is disabled, though its interface is there; and
// it is not lost, though on_down is drop.
func TestWhatWaitsForItsTurnWaitsWhileTheRuleIsDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		rules := []mapping.SendRule{
			fake.SendRule(t, "slow", "k", "239.1.1.1:5000", rate("1/s", mapping.OverWait), fake.OnDown(mapping.OnDownDrop)),
			fake.SendRule(t, "other", "o", "239.1.1.2:5000"),
		}
		b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty}, rules, nil)
		var batch []session.Message
		for i := range 4 {
			batch = append(batch, fake.Message("k", fmt.Sprint(i), byte(i%2)))
		}
		b.send.Handle(batch)
		synctest.Wait()
		b.off = map[string]*account.Disabled{"slow": {Since: time.Now(), By: "a test"}}
		b.reload(t, rules, nil)
		time.Sleep(time.Minute)
		more := []session.Message{fake.Message("k", "off", 1), fake.Message("o", "on", 1)}
		b.send.Handle(more)
		if s := b.Status().Rules[0]; n.Payloads() != "0,on" || more[0].Hold || s.WaitingMemory != 3 || s.Filtered["disabled"] != 1 || len(s.Drops) > 0 {
			t.Errorf("sent %s, %+v", n.Payloads(), s)
		}
		b.off = nil
		b.reload(t, rules, nil)
		time.Sleep(time.Minute)
		if s := b.Status().Rules[0]; n.Payloads() != "0,on,1,2,3" || s.WaitingMemory != 0 || s.State != account.StateUp {
			t.Errorf("sent %s, %+v", n.Payloads(), s)
		}
	})
}

// Who asks by a rule that is disabled is told so at once, and so is who waits for an answer as it is.
func TestARequestOfADisabledRuleIsToldOfThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := []mapping.SendRule{devices(t)}
		b, _ := timing(t, rigOptions{}, rules...)
		b.send.Handle([]session.Message{ask(1, "?")})
		synctest.Wait()
		b.off = map[string]*account.Disabled{"ask": {Since: time.Now(), By: "a test"}}
		b.reload(t, rules, nil)
		b.send.Handle([]session.Message{ask(2, "?")})
		if s := b.Status().Rules[0]; s.Filtered["disabled"] != 1 || s.State != account.StateDisabled || !strings.Contains(s.Reason, "a test") {
			t.Errorf("%+v", s)
		}
		if said := strings.Join(b.says(0), "\n"); strings.Count(said, `"reason":"disabled"`) != 2 {
			t.Errorf("told %q", said)
		}
	})
}
