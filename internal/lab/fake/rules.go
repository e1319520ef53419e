package fake

import (
	"net/netip"
	"testing"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/mapping"
)

func Interface(name string, index int, prefix string) multicast.Interface {
	return multicast.Interface{Name: name, Index: index, MTU: 1500, Up: true, Carrier: true,
		Addresses: []multicast.Address{{Prefix: netip.MustParsePrefix(prefix)}}}
}

// SendRule is a send rule from 172.17.0.1 on iso0, or from what change makes of it.
func SendRule(t testing.TB, name, filter, group string, change ...func(*mapping.SendRule)) mapping.SendRule {
	t.Helper()
	f, err := mapping.ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	g, err := mapping.ParseGroup(group)
	if err != nil {
		t.Fatal(err)
	}
	p, err := mapping.ParsePayload("raw")
	if err != nil {
		t.Fatal(err)
	}
	r := mapping.SendRule{Name: name, Filter: f, QoS: 1, Group: g, Payload: p, Binding: mapping.Binding{
		Interface: "iso0", Source: netip.MustParsePrefix("172.17.0.1/32"), TTL: 1, Loopback: true, Fragment: true}}
	for _, c := range change {
		c(&r)
	}
	return r
}

// ToHost has a rule send to a host.
func ToHost(t testing.TB, host string) func(*mapping.SendRule) {
	t.Helper()
	h, err := mapping.ParseHost(host)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *mapping.SendRule) {
		r.Group, r.Host, r.Binding.TTL = mapping.Group{}, h, mapping.DefaultHostTTL
	}
}

// Answered has what comes back published on a topic, within 100 ms.
func Answered(t testing.TB, topic string) func(*mapping.SendRule) {
	t.Helper()
	to, err := mapping.ParseAnswerTopic(topic)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *mapping.SendRule) {
		r.Answer = &mapping.Answer{Topic: to, Within: 100 * time.Millisecond, Tries: 1}
	}
}

// ReceiveRule is a receive rule on iso0, or what change makes of it.
func ReceiveRule(t testing.TB, name, group, topic string, change ...func(*mapping.ReceiveRule)) mapping.ReceiveRule {
	t.Helper()
	g, err := mapping.ParseGroupRange(group)
	if err != nil {
		t.Fatal(err)
	}
	to, err := mapping.ParseTopic(topic)
	if err != nil {
		t.Fatal(err)
	}
	r := mapping.ReceiveRule{Name: name, Groups: []mapping.GroupRange{g}, Interface: "iso0", Topic: to, QoS: 1}
	for _, c := range change {
		c(&r)
	}
	return r
}

func OnPriv(r *mapping.SendRule) {
	r.Binding.Interface, r.Binding.Source = "priv0", netip.MustParsePrefix("10.0.0.2/32")
}

func Encoding(t *testing.T, name string) mapping.Encoding {
	t.Helper()
	e, err := mapping.ParseEncoding(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func Every(d time.Duration) func(*mapping.ReceiveRule) {
	return func(r *mapping.ReceiveRule) { r.Every = d }
}

func OnDown(p mapping.OnDown) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) { r.OnDown = p }
}

func MaxAge(d time.Duration) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) { r.MaxAge = d }
}

// OpenSpool opens the spool in a folder, for the time of the test.
func OpenSpool(t testing.TB, dir string, size int64) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, MaxSize: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// CrowdSpool has the writer of a spool stand still, and fills the room with messages of size that another
// direction has for it. goOn has it go on.
func CrowdSpool(s *spool.Spool, size int) (others int, goOn func()) {
	hold, written := make(chan struct{}), make(chan struct{})
	other := s.Queue("of another direction")
	other.Append(spool.Record{Topic: []byte("t")}, func(error) {
		close(written)
		<-hold // the goroutine that writes
	})
	<-written
	for others = 1; ; others++ {
		if _, room := other.Append(spool.Record{Topic: []byte("t"), Payload: make([]byte, size)}, func(error) {}); !room {
			return others, func() { close(hold) }
		}
	}
}

func MustPayload(t testing.TB, text string) mapping.Payload {
	t.Helper()
	p, err := mapping.ParsePayload(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func Message(topic, payload string, qos byte) session.Message {
	return session.Message{Topic: []byte(topic), Payload: []byte(payload), Size: len(payload), QoS: qos}
}
