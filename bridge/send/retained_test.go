package send_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// restarted is a bridge that remembers in a folder. When the test calls end, the
// bridge has ended in good order.
func restarted(t *testing.T, n *fake.Network, o rigOptions, dir string, rules ...mapping.SendRule) (b *rig, end func()) {
	t.Helper()
	o.QueueSize, o.LastSent = fake.Plenty, lastsent.Open(lastsent.Options{Dir: dir})
	t.Cleanup(func() { end() })
	b = newRigOf(t, n, o, rules, nil)
	ended := false
	return b, func() {
		if !ended {
			ended = true
			b.send.Stop(context.Background())
			o.LastSent.Close()
		}
	}
}

// kept hands over a message that the broker had kept, or another that it had not.
func (b *rig) kept(topic, payload string) { b.handOver(topic, payload, true) }
func (b *rig) live(topic, payload string) { b.handOver(topic, payload, false) }

func (b *rig) handOver(topic, payload string, retain bool) {
	m := fake.Message(topic, payload, 1)
	m.Retain = retain
	b.send.Handle([]session.Message{m})
}

func (b *rig) nothingWaits() bool {
	r := b.working.Rules[0]
	return r.InMemory() == 0 && r.InSpool() == 0
}

func TestARestartSendsNoRetainedMessageAgain(t *testing.T) {
	dir := t.TempDir()
	r := fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000")
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b, end := restarted(t, n, rigOptions{}, dir, r)
	b.kept("t/1", "one")
	b.live("t/2", "two") // as a retained message comes while there is a subscription
	b.live("t/3", "three")
	b.live("t/3", "") // cleared
	end()
	for range 2 {
		n = &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b, end = restarted(t, n, rigOptions{}, dir, r)
		b.kept("t/1", "one")
		b.kept("t/2", "two")
		if got := n.Payloads(); got != "" {
			t.Errorf("sent %q again", got)
		}
		if got := b.Status().Rules[0]; got.Filtered["retained"] != 2 || len(got.Drops) != 0 {
			t.Errorf("filtered %v, dropped %v", got.Filtered, got.Drops)
		}
		end()
	}
	n = &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b, _ = restarted(t, n, rigOptions{}, dir, r)
	b.kept("t/1", "one") // as before
	b.kept("t/2", "new")
	b.kept("t/2", "new")
	b.kept("t/3", "three") // was cleared
	b.kept("t/4", "four")
	b.live("t/1", "one") // published now
	if got := n.Payloads(); got != "new,three,four,one" {
		t.Errorf("sent %q", got)
	}
}

func TestOtherPoliciesRememberNothing(t *testing.T) {
	dir := t.TempDir()
	rules := []mapping.SendRule{
		fake.SendRule(t, "always", "a", "239.1.1.1:5000", func(r *mapping.SendRule) { r.Retained = mapping.RetainedAlways }),
		fake.SendRule(t, "never", "n", "239.1.1.2:5000", func(r *mapping.SendRule) { r.Retained = mapping.RetainedNever }),
	}
	for range 2 {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b, end := restarted(t, n, rigOptions{}, dir, rules...)
		b.live("a", "a")
		b.kept("a", "a")
		b.live("n", "n")
		b.kept("n", "n")
		if got := n.Payloads(); got != "a,a,n" {
			t.Errorf("sent %q", got)
		}
		if b.send.Notes("a") || b.send.Notes("n") {
			t.Error("it is noted what was sent")
		}
		end()
	}
	once := slices.Clone(rules) // which would find what the others remembered
	for i := range once {
		once[i].Retained = mapping.RetainedOnce
	}
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b, _ := restarted(t, n, rigOptions{}, dir, once...)
	b.kept("a", "a")
	b.kept("n", "n")
	if got := n.Payloads(); got != "a,n" {
		t.Errorf("sent %q: something was remembered", got)
	}
}

// Devices that have not had the message get it, though it is the same.
func TestARuleThatSendsOtherwiseSendsRetainedMessagesAgain(t *testing.T) {
	base := func() mapping.SendRule { return fake.SendRule(t, "r", "t", "239.1.1.1:5000") }
	group, err := mapping.ParseGroup("239.1.1.2:5000")
	if err != nil {
		t.Fatal(err)
	}
	hex, err := mapping.ParsePayload("hex")
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(*mapping.SendRule){
		"group":      func(r *mapping.SendRule) { r.Group = group },
		"payload":    func(r *mapping.SendRule) { r.Payload = hex },
		"name":       func(r *mapping.SendRule) { r.Name = "other" },
		"Interface":  func(r *mapping.SendRule) { r.Binding.Interface = "" },
		"Source":     func(r *mapping.SendRule) { r.Binding.Source = netip.MustParsePrefix("172.17.0.0/16") },
		"SourcePort": func(r *mapping.SendRule) { r.Binding.SourcePort = 5353 },
		"TTL":        func(r *mapping.SendRule) { r.Binding.TTL = 9 },
		"Loopback":   func(r *mapping.SendRule) { r.Binding.Loopback = false },
		"DSCP":       func(r *mapping.SendRule) { r.Binding.DSCP = 46 },
		"Fragment":   func(r *mapping.SendRule) { r.Binding.Fragment = false },
	}
	binding := reflect.TypeFor[mapping.Binding]()
	for i := range binding.NumField() {
		if name := binding.Field(i).Name; changes[name] == nil && name != "IPv6" && name != "Host" && name != "Answers" { // which target and name say too
			t.Errorf("is what was sent with another %s known?", name)
		}
	}
	const payload = "6f6e"
	for what, change := range changes {
		for _, reload := range []bool{false, true} {
			dir := t.TempDir()
			n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
			b, end := restarted(t, n, rigOptions{}, dir, base())
			b.kept("t", payload)
			next := base()
			change(&next)
			if reload {
				b.reload(t, []mapping.SendRule{next}, nil)
			} else {
				end()
				b, end = restarted(t, n, rigOptions{}, dir, next)
			}
			b.kept("t", payload)
			b.kept("t", payload)
			if got := strings.Count(n.Payloads(), ",") + 1; got != 2 {
				t.Errorf("another %s, by a reload: %v: sent %q, want it twice", what, reload, n.Payloads())
			}
			if what == "group" || what == "name" { // what goes elsewhere or by another rule is remembered by itself
				end()
				continue
			}
			if reload { // back again: what was sent meanwhile is the last
				b.reload(t, []mapping.SendRule{base()}, nil)
			} else {
				end()
				b, end = restarted(t, n, rigOptions{}, dir, base())
			}
			b.kept("t", payload)
			b.kept("t", payload)
			if got := strings.Count(n.Payloads(), ",") + 1; got != 3 {
				t.Errorf("another %s and back, by a reload: %v: sent %q, want it three times", what, reload, n.Payloads())
			}
			end()
		}
	}
}

// A device is to end up with what the broker has: what was last sent is not what it
// will have when something else waits.
func TestARetainedMessageGoesBehindWhatWaits(t *testing.T) {
	r := fake.SendRule(t, "r", "t", "239.1.1.1:5000")
	for _, spool := range []bool{false, true} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		o := rigOptions{}
		if spool {
			o.Spool = rigSpool{On: fake.OpenSpool(t, t.TempDir(), 16<<20), Dir: "dir"}
		}
		b, _ := restarted(t, n, o, t.TempDir(), r)
		b.kept("t", "on")
		n.Set()
		b.reconcile(t.Context())
		b.live("t", "off") // waits
		b.kept("t", "on")  // the broker has it again
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		fake.WaitFor(t, "all to leave", func() bool { return n.Payloads() == "on,off,on" })
		fake.WaitFor(t, "nothing to wait", b.nothingWaits)
		b.kept("t", "on")
		if got := n.Payloads(); got != "on,off,on" {
			t.Errorf("spool %v: sent %q", spool, got)
		}
	}
}

// The same with more of the topic on disk than the socket takes now.
func TestARetainedMessageGoesBehindAllThatIsOnDisk(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	r := fake.SendRule(t, "r", "t", "239.1.1.1:5000")
	on := fake.OpenSpool(t, dir, 16<<20)
	b, end := restarted(t, &fake.Network{}, rigOptions{Spool: rigSpool{On: on, Dir: dir}}, state, r)
	b.live("t", "off")
	b.live("t", "dim")
	b.spilled(t)
	end()
	if err := on.Close(); err != nil {
		t.Fatal(err)
	}
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Room: 1}
	b, _ = restarted(t, n, rigOptions{Spool: rigSpool{On: fake.OpenSpool(t, dir, 16<<20), Dir: dir}}, state, r)
	fake.WaitFor(t, "the first", func() bool { return n.Payloads() == "off" })
	b.kept("t", "off")
	n.LastSocket().Allow(9, nil)
	fake.WaitFor(t, "nothing to wait", b.nothingWaits)
	fake.WaitFor(t, "all to leave", func() bool { return n.Payloads() == "off,dim,off" })
	fake.WaitFor(t, "it on disk", func() bool { return b.knownAfterAKill(t, state, "t", "off") })
}

// On disk it is not said that on was sent last while off, which was to leave before on
// once more, still waits: with a message of QoS 0 nobody would repeat the last on.
func TestNothingIsKnownOnDiskOfATopicThatWaits(t *testing.T) {
	dir := t.TempDir()
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b, _ := restarted(t, n, rigOptions{}, dir, fake.SendRule(t, "r", "t", "239.1.1.1:5000"), fake.SendRule(t, "other", "o", "239.1.1.1:5000", fake.OnPriv))
	b.live("t", "on")
	fake.WaitFor(t, "it on disk", func() bool { return b.knownAfterAKill(t, dir, "t", "on") })
	for _, s := range n.Sockets {
		if s.Src.Interface == "iso0" {
			s.Allow(0, nil)
			<-s.Free
		}
	}
	b.live("t", "off")
	b.live("t", "on")
	b.live("o", "other")
	fake.WaitFor(t, "another topic on disk", func() bool { return b.knownAfterAKill(t, dir, "o", "other") })
	if b.knownAfterAKill(t, dir, "t", "on") {
		t.Error("the topic is on disk, though others of it wait")
	}
}

// What was lost on its way has not reached the devices, and what is in the broker goes
// there, though it is what was sent before that.
func TestAfterALossARetainedMessageIsSentAgain(t *testing.T) {
	r := fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.MaxAge(time.Nanosecond))
	for what, lose := range map[string]func(*fake.Network, *rig){
		"refused by the kernel": func(n *fake.Network, b *rig) {
			n.LastSocket().Reject = map[string]error{"off": syscall.EPERM}
			b.live("t", "off")
		},
		"too old in memory": func(n *fake.Network, b *rig) {
			n.Set()
			b.reconcile(t.Context())
			b.live("t", "off")
			n.Set(fake.Iso0)
			b.reconcile(t.Context())
		},
	} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b, _ := restarted(t, n, rigOptions{}, t.TempDir(), r)
		b.kept("t", "on")
		lose(n, b)
		fake.WaitFor(t, "nothing to wait", b.nothingWaits)
		b.kept("t", "on")
		if got := n.Payloads(); got != "on,on" {
			t.Errorf("%s: sent %q", what, got)
		}
	}
}

func TestARetainedMessageGoesBehindWhatAReloadBringsToItsGroup(t *testing.T) {
	here, there := fake.SendRule(t, "r", "t", "239.1.1.1:5000"), fake.SendRule(t, "r", "t", "239.1.1.2:5000")
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b, _ := restarted(t, n, rigOptions{}, t.TempDir(), here)
	b.kept("t", "on")
	b.reload(t, []mapping.SendRule{there}, nil)
	n.Set()
	b.reconcile(t.Context())
	b.live("t", "off") // waits, to go there
	b.reload(t, []mapping.SendRule{here}, nil)
	b.kept("t", "on") // which is what was last sent here
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "nothing to wait", b.nothingWaits)
	fake.WaitFor(t, "all to leave", func() bool { return n.Payloads() == "on,off,on" })
}

// An update of topicast switches no device again.
func TestTheKeyOfARuleStaysWhatItIs(t *testing.T) {
	dir := t.TempDir()
	before := lastsent.Open(lastsent.Options{Dir: dir})
	is := before.Entry(0x7a30ee6da61d4477, "r")
	payload := lastsent.By(0xc19de92c3e2050d6, before.Fingerprint([]byte("on")))
	before.Lay(is, payload)
	before.Sent(is, payload)
	before.Close()
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b, _ := restarted(t, n, rigOptions{}, dir, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000"))
	b.kept("t/1", "on")
	if got := n.Payloads(); got != "" {
		t.Errorf("sent %q: what a version before has kept is not found", got)
	}
	b.kept("t/2", "on")
	if got := n.Payloads(); got != "on" {
		t.Errorf("sent %q for another topic", got)
	}
}

func TestAfterARestartARetainedMessageGoesBehindWhatIsOnDisk(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	r := fake.SendRule(t, "r", "t/+", "239.1.1.1:5000")
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	on := fake.OpenSpool(t, dir, 16<<20)
	b, end := restarted(t, n, rigOptions{Spool: rigSpool{On: on, Dir: dir}}, state, r)
	b.kept("t/1", "on")
	b.kept("t/2", "as it was")
	n.Set()
	b.reconcile(t.Context())
	b.live("t/1", "off")
	b.spilled(t)
	end()
	if err := on.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ = restarted(t, n, rigOptions{Spool: rigSpool{On: fake.OpenSpool(t, dir, 16<<20), Dir: dir}}, state, r)
	b.kept("t/1", "on")
	b.kept("t/2", "as it was")
	b.spilled(t)
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "the disk to be empty", b.nothingWaits)
	if got := n.Payloads(); got != "on,as it was,off,on" {
		t.Errorf("sent %q", got)
	}
}

// knownAfterAKill reports whether the next process would know that a rule has sent a payload
// for a topic, and not send it again, were this one killed now.
func (b *rig) knownAfterAKill(t *testing.T, dir string, topic, payload string) bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "last-sent"))
	if err != nil {
		t.Error(err)
	}
	left := t.TempDir()
	if err := os.WriteFile(filepath.Join(left, "last-sent"), data, 0o600); err != nil {
		t.Error(err)
	}
	var rules []mapping.SendRule
	for _, r := range b.working.Rules {
		rules = append(rules, *r.SendRule)
	}
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	next, end := restarted(t, n, rigOptions{}, left, rules...)
	defer end()
	next.kept(topic, payload)
	return n.Payloads() == ""
}

// What a kill leaves on disk must not hold back what the devices do not have.
func TestWhatIsNoLongerSoIsOffTheDiskBeforeADatagramLeaves(t *testing.T) {
	dir := t.TempDir()
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	before := func() {}
	place := func(s *fake.Socket) send.Sender { return &watched{s, func() { before() }} }
	b, _ := restarted(t, n, rigOptions{InPlaceOf: place}, dir, fake.SendRule(t, "r", "t/+", "239.1.1.1:5000"))
	known := func(topic, payload string) bool { return b.knownAfterAKill(t, dir, topic, payload) }
	b.live("t/1", "on")
	b.live("t/2", "on")
	fake.WaitFor(t, "both on disk", func() bool { return known("t/1", "on") && known("t/2", "on") })
	var seen []bool
	before = func() { seen = append(seen, known("t/1", "on"), known("t/2", "on")) }
	b.live("t/1", "off")
	if want := []bool{false, true}; !slices.Equal(seen, want) {
		t.Errorf("when off leaves for topic 1, a kill leaves on as the last sent of 1 and 2: %v, want %v", seen, want)
	}
	fake.WaitFor(t, "it on disk", func() bool { return known("t/1", "off") })
}

// watched calls before it sends.
type watched struct {
	*fake.Socket
	before func()
}

func (w *watched) SendChecked(check *multicast.AddressCheck, batch []multicast.Datagram, failed func(int, error)) (int, error) {
	w.before()
	return w.Socket.SendChecked(check, batch, failed)
}

// Of what waits for its turn all is known that has left.
func TestWhatHasWaitedForItsTurnIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		r := fake.SendRule(t, "r", "t/+", "239.1.1.1:5000")
		r.Rate, _ = mapping.ParseRate("10/s")
		b, _ := restarted(t, n, rigOptions{}, "", r)
		b.live("t/1", "on")
		fake.WaitFor(t, "it to be sent", b.nothingWaits)
		b.kept("t/1", "on")
		fake.WaitFor(t, "it to be filtered", b.nothingWaits)
		if got := n.Payloads(); got != "on" {
			t.Errorf("sent %q", got)
		}
	})
}

// After a clear that is left out the value before it is new, also if both came at once.
func TestAfterAClearInTheSameBatchAValueIsNew(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		r := fake.SendRule(t, "r", "t", "239.1.1.1:5000")
		r.DropEmpty = true
		b, _ := restarted(t, n, rigOptions{}, dir, r)
		b.send.Handle([]session.Message{fake.Message("t", "on", 0), fake.Message("t", "", 0)})
		b.kept("t", "on")
		b.kept("t", "on")
		if got := n.Payloads(); got != "on,on" {
			t.Errorf("file %q: sent %q", dir, got)
		}
	}
}

// What waits as its rule comes to send otherwise was made by the settings of before and leaves by those of now:
// no rule takes it for the last one.
func TestWhatLeavesByOtherSettingsThanItWasMadeByIsNotKnown(t *testing.T) {
	before := fake.SendRule(t, "r", "t", "239.1.1.1:5000")
	next := fake.SendRule(t, "r", "t", "239.1.1.1:5000")
	next.Binding.TTL = 9
	for _, dir := range []string{"", t.TempDir()} {
		n := &fake.Network{}
		b, _ := restarted(t, n, rigOptions{}, dir, before)
		b.live("t", "on") // waits
		b.reload(t, []mapping.SendRule{next}, nil)
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		fake.WaitFor(t, "nothing to wait", b.nothingWaits)
		b.reload(t, []mapping.SendRule{before}, nil)
		b.kept("t", "on")
		b.kept("t", "on")
		if got := n.Payloads(); got != "on,on" {
			t.Errorf("file %q: sent %q", dir, got)
		}
	}
}

// A copy of QoS 0 may be lost where one of QoS 1 waits: it is no reason to leave that out. Brokers send both
// where two filters cover a topic.
func TestACopyOfALowerQoSIsNoRepetition(t *testing.T) {
	n := &fake.Network{}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	low, high := fake.Message("t", "on", 0), fake.Message("t", "on", 1)
	low.Retain, high.Retain = true, true
	b.send.Handle([]session.Message{low, high, high})
	if got := b.Status().Rules[0]; got.Drops["pending"] != 1 || got.Filtered["retained"] != 1 {
		t.Errorf("dropped %v, filtered %v", got.Drops, got.Filtered)
	}
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "it to leave", func() bool { return n.Payloads() == "on" })
}

// What the kernel took before the carrier was found to have been away may have left all the same. When it is
// given up then, nobody knows what the devices have.
func TestAfterADoubtfulCarrierNothingIsKnown(t *testing.T) {
	for _, waited := range []bool{false, true} {
		t.Run(fmt.Sprintf("waited=%t", waited), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
				b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.OnDown(mapping.OnDownDrop)))
				b.live("t", "on")
				s := n.LastSocket()
				if waited {
					s.Allow(0, nil)
					<-s.Free
					b.live("t", "off")
					s.Cut(errNoCarrier)
					s.Allow(1, nil)
				} else {
					s.Cut(errNoCarrier)
					b.live("t", "off")
				}
				fake.WaitFor(t, "it to be given up", func() bool { return b.Status().Rules[0].Drops["pending"] == 1 })
				b.live("t", "on") // dropped, too
				restore(b)
				b.kept("t", "on")
				if got := n.Payloads(); got != "on,off,on" {
					t.Errorf("sent %q, drops %v", got, b.Status().Rules[0].Drops)
				}
			})
		})
	}
}

// So on disk: what was given to the kernel in doubt, and is flushed before it can be again.
func TestAfterADoubtfulCarrierWhatWasOnDiskIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.OnDown(mapping.OnDownSpool)))
		b.live("t", "on")
		n.Set()
		b.reconcile(t.Context())
		b.live("t", "off")
		b.spilled(t)
		n.Lost = errNoCarrier
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		fake.WaitFor(t, "a doubt", func() bool { return n.Payloads() == "on,off" && b.Status().Rules[0].State == account.StatePending })
		n.Set()
		b.reconcile(t.Context())
		b.live("t", "on")
		b.spilled(t)
		b.flush(t, 0)
		fake.WaitFor(t, "nothing to wait", b.nothingWaits)
		n.Lost = nil
		n.Set(fake.Iso0)
		restore(b)
		b.kept("t", "on")
		fake.WaitFor(t, "nothing to wait", b.nothingWaits)
		if got := n.Payloads(); got != "on,off,on" {
			t.Errorf("sent %q, now %+v", got, b.Status().Rules[0])
		}
	})
}

// Where the last of a batch is refused, the devices have the one before it.
func TestBeforeOneThatIsRefusedTheLastIsKnown(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	n.LastSocket().Reject = map[string]error{"refused": syscall.EPERM}
	b.send.Handle([]session.Message{fake.Message("t", "on", 0), fake.Message("t", "refused", 0)})
	b.kept("t", "on")
	if got := n.Payloads(); got != "on" {
		t.Errorf("sent %q", got)
	}
}

// What a batch has sent last is what is known of a topic, with a file and without: not what came before it,
// nor what the kernel refused; and of a topic that is too long to be remembered as well.
func TestTheLastOfABatchIsKnown(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		t.Run(fmt.Sprintf("file=%t", dir != ""), func(t *testing.T) {
			n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
			b, _ := restarted(t, n, rigOptions{}, dir, fake.SendRule(t, "r", "t/#", "239.1.1.1:5000"))
			n.LastSocket().Reject = map[string]error{"refused": syscall.EPERM}
			for _, topic := range []string{"t/short", "t/" + strings.Repeat("long", 300)} {
				batch := func(payloads ...string) (sent string) {
					t.Helper()
					var all []session.Message
					for _, p := range payloads {
						m := fake.Message(topic, strings.TrimPrefix(p, "kept "), 1)
						m.Retain = strings.HasPrefix(p, "kept ")
						all = append(all, m)
					}
					before := n.Payloads()
					b.send.Handle(all)
					return strings.TrimPrefix(strings.TrimPrefix(n.Payloads(), before), ",")
				}
				for _, step := range []struct {
					batch      []string
					sent, long string // of what is not remembered only what has left is known
				}{
					{[]string{"a", "b", "c"}, "a,b,c", "a,b,c"},
					{[]string{"kept b"}, "b", "b"},
					{[]string{"kept b"}, "", ""},
					{[]string{"x", "kept b"}, "x,b", "x,b"},
					{[]string{"kept x", "kept b"}, "x,b", "x,b"},
					{[]string{"y", "kept y", "kept y"}, "y", "y,y,y"},
					{[]string{"y", "refused"}, "y", "y"},
					{[]string{"kept refused"}, "", ""}, // in vain again
					{[]string{"z", "kept y"}, "z,y", "z,y"},
					{[]string{"", "kept y"}, ",y", ",y"},
				} {
					want := step.sent
					if len(topic) > 1024 {
						want = step.long
					}
					if sent := batch(step.batch...); sent != want {
						t.Errorf("%.10s, %q: sent %q, want %q", topic, step.batch, sent, want)
					}
				}
			}
		})
	}
}
