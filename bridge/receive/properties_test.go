package receive_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// bearing is what message i bears beside its payload.
func bearing(t *testing.T, p *fake.Publisher, i int) string {
	t.Helper()
	props := session.ReadProperties(p.Batch(i).Properties)
	text := ""
	if value, ok := props.ContentType(); ok {
		text = "type=" + string(value)
	}
	for _, name := range []string{"source", "group", "destination", "interface"} {
		if value, ok := props.User(name); ok {
			text += fmt.Sprintf(" %s=%s", name, value)
		}
	}
	if at, ok := props.User("received_at"); ok {
		if !strings.HasSuffix(string(at), "Z") || !strings.Contains(string(at), "T") {
			t.Errorf("received at %s", at)
		}
		text += " at"
	}
	return text
}

func metadata(r *mapping.ReceiveRule)    { r.Metadata = true }
func contentType(r *mapping.ReceiveRule) { r.ContentType = "application/json" }

// With metadata a message says where it came from, and its payload stays as it is.
func TestAMessageSaysWhereItsDatagramCameFrom(t *testing.T) {
	for _, c := range []struct {
		change []func(*mapping.ReceiveRule)
		want   string
	}{
		{nil, ""},
		{[]func(*mapping.ReceiveRule){contentType}, "type=application/json"},
		{[]func(*mapping.ReceiveRule){metadata}, " source=172.17.0.9:4000 group=239.1.1.1:5000 interface=iso0 at"},
		{[]func(*mapping.ReceiveRule){metadata, contentType}, "type=application/json source=172.17.0.9:4000 group=239.1.1.1:5000 interface=iso0 at"},
		{[]func(*mapping.ReceiveRule){metadata, func(r *mapping.ReceiveRule) { r.QoS = 0 }}, " source=172.17.0.9:4000 group=239.1.1.1:5000 interface=iso0 at"},
		{[]func(*mapping.ReceiveRule){metadata, func(r *mapping.ReceiveRule) { r.Encoding = fake.Encoding(t, "hex") }}, " source=172.17.0.9:4000 group=239.1.1.1:5000 interface=iso0 at"},
	} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, rigOptions{QueueSize: fake.Plenty}, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", c.change...)})
		b.connect(true)
		var payloads []string
		for i := range 3000 {
			payloads = append(payloads, fmt.Sprint("x", i))
		}
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, payloads...)
		p := b.publisher()
		p.Await(t, len(payloads))
		for i := range payloads {
			if got := bearing(t, p, i); got != c.want {
				t.Fatalf("message %d bears %q, want %q", i, got, c.want)
			}
		}
		if p.Acknowledge(); b.budget.Bytes() != 0 {
			t.Errorf("%d bytes are still taken", b.budget.Bytes())
		}
	}
}

// Through the disk, and to the next process, a message keeps its properties; so does a copy of what the
// session has.
func TestPropertiesAreKeptOnDisk(t *testing.T) {
	dir := t.TempDir()
	rule := fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", metadata, contentType)
	const want = "type=application/json source=172.17.0.9:4000 group=239.1.1.1:5000 interface=iso0 at"
	b, n, p := spooling(t, dir, 1<<20, rigOptions{}, nil, rule)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	b.spooled(t, 2)
	if got := b.budget.Bytes(); got != 0 {
		t.Errorf("%d bytes of memory are taken by what is on disk", got)
	}
	b.connect(true)
	p.Await(t, 2)
	if got := bearing(t, p, 0); got != want {
		t.Errorf("after the disk it bears %q, want %q", got, want)
	}
	p.Acknowledge()
	fake.WaitFor(t, "the end of the spooling", func() bool { return !b.working.Rules[0].Spooling() })
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "3")
	p.Await(t, 3)
	if left := p.Rescue(); left != 0 {
		t.Errorf("no copy of %d", left)
	}
	fake.WaitFor(t, "the copy", func() bool { return b.options.Spool.On.Undecided() == 0 && b.options.Spool.On.Len() == 1 })
	p.Stop()
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := spooling(t, dir, 1<<20, rigOptions{}, nil, rule)
	next.connect(true)
	p.Await(t, 1)
	if got := bearing(t, p, 0); got != want || p.Published()[0] != "t 3" {
		t.Errorf("the copy, %s, bears %q, want %q", p.Published()[0], got, want)
	}
}

// A broker of MQTT 3.1.1 does not get them, and the rule says so.
func TestARuleWhosePropertiesAreLostIsDegraded(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, rigOptions{QueueSize: fake.Plenty}, nil, []mapping.ReceiveRule{
		fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", metadata), fake.ReceiveRule(t, "none", "239.1.1.2:5000", "t")})
	for _, properties := range []bool{true, false, true} {
		b.receive.SetConnected(true, properties)
		want := account.StateDegraded
		if properties {
			want = account.StateUp
		}
		s := b.Status().Receive
		if s[0].State != want || s[1].State != account.StateUp || !properties && !strings.Contains(s[0].Reason, "of MQTT 5") {
			t.Errorf("properties %t: %s (%s), %s", properties, s[0].State, s[0].Reason, s[1].State)
		}
		if state, reason := b.working.Rules[0].Judge(time.Now()); state != want || reason != s[0].Reason {
			t.Errorf("properties %t: %s (%s) of many", properties, state, reason)
		}
	}
}
