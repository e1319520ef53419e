package send_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func always(r *mapping.SendRule) { r.Retained = mapping.RetainedAlways }

// Each message goes where its own payload says, as it came, and those of a target in order.
func TestEachMessageGoesWhereItsPayloadSays(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	data := func(r *mapping.SendRule) { r.Payload = fake.MustPayload(t, "json:/data") }
	b := newRig(t, n, fake.Plenty,
		fake.SendRule(t, "fields", "t/{n}", "239.1.{n}.{json:/id}:5000", data, affixes),
		fake.SendRule(t, "fixed", "t/#", "239.9.9.9:5000", when(t, "json:/id == 2")))
	batch := []session.Message{
		fake.Message("t/1", `{"id":2,"data":"a"}`, 1), fake.Message("t/1", `{"id":3,"data":"b"}`, 1),
		fake.Message("t/1", `{"id":2,"data":"c"}`, 0), fake.Message("t/2", `{"id":2,"data":"d"}`, 1),
	}
	b.send.Handle(batch)
	want := []string{
		"239.1.1.2:5000 <a>\n", "239.1.1.2:5000 <c>\n",
		`239.9.9.9:5000 {"id":2,"data":"a"}`, `239.9.9.9:5000 {"id":2,"data":"c"}`, `239.9.9.9:5000 {"id":2,"data":"d"}`,
		"239.1.1.3:5000 <b>\n", "239.1.2.2:5000 <d>\n",
	}
	if diff := cmp.Diff(want, n.LastSocket().Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	for i, m := range batch {
		if m.Hold {
			t.Errorf("message %d is held", i)
		}
	}
}

func TestAPayloadWithoutATargetIsCounted(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	drop := func(r *mapping.SendRule) { r.DropEmpty = true }
	never := func(r *mapping.SendRule) { r.Retained = mapping.RetainedNever }
	b := newRig(t, n, fake.Plenty,
		fake.SendRule(t, "group", "t", "239.1.1.{u8@1}:{u8@0}", when(t, `!(payload begins "no")`)),
		fake.SendRule(t, "host", "t", "239.1.1.1:1", fake.ToHost(t, "{u8@0}.1.1.1:{u8@1}"), drop),
		fake.SendRule(t, "never", "t", "239.1.2.{u8@1}:{u8@0}", never))
	oversize := fake.Message("t", "", 1)
	oversize.Oversize, oversize.Size = true, 1<<20
	retained := fake.Message("t", "\xe0\x07", 1)
	retained.Retain = true
	b.send.Handle([]session.Message{
		fake.Message("t", "\x00\x07", 1), // port 0, and network 0
		fake.Message("t", "\x09", 1),     // too short
		fake.Message("t", "", 1),
		fake.Message("t", "no", 1),
		oversize, retained, // 224.1.1.1 is no host
	})
	s := b.Status()
	for i, want := range []struct{ drops, filtered map[string]uint64 }{
		{map[string]uint64{"bad_group": 3, "oversize": 1}, map[string]uint64{"when": 1}},
		{map[string]uint64{"bad_host": 3, "oversize": 1}, map[string]uint64{"empty": 1}},
		{map[string]uint64{"bad_group": 3, "oversize": 1}, map[string]uint64{"retained": 1}},
	} {
		if diff := cmp.Diff(want.drops, s.Rules[i].Drops); diff != "" {
			t.Errorf("%s: drops (-want +got):\n%s", s.Rules[i].Name, diff)
		}
		if diff := cmp.Diff(want.filtered, s.Rules[i].Filtered); diff != "" {
			t.Errorf("%s: filtered (-want +got):\n%s", s.Rules[i].Name, diff)
		}
	}
	for i, r := range s.Rules {
		if r.Sent != 1 {
			t.Errorf("%s: %d sent", s.Rules[i].Name, r.Sent)
		}
	}
}

func TestARetainedMessageIsSentOnceToItsTarget(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.{u8@0 & 15}:5000"))
	retained := func(payload string) session.Message {
		m := fake.Message("t", payload, 1)
		m.Retain = true
		return m
	}
	b.send.Handle([]session.Message{retained("1a"), retained("2a"), retained("1a")})
	b.send.Handle([]session.Message{retained("1a"), retained("2b")})
	want := []string{"239.1.1.1:5000 1a", "239.1.1.2:5000 2a", "239.1.1.2:5000 2b"}
	if diff := cmp.Diff(want, n.LastSocket().Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

// What waits goes, in the end, where its payload as it came says, by the rules as they are then.
func TestWhatWaitsGoesWhereItsPayloadSays(t *testing.T) {
	waits(t, func(t *testing.T, dir string, change func(s *sender, rules ...mapping.SendRule) *sender) {
		data := func(r *mapping.SendRule) { r.Payload = fake.MustPayload(t, "json:/data") }
		s := start(t, dir, fake.SendRule(t, "r", "t", "239.1.1.{json:/id}:5000", data))
		s.Handle([]session.Message{fake.Message("t", `{"id":1,"data":"a"}`, 1), fake.Message("t", `{"id":2,"data":"b"}`, 1), fake.Message("t", `{"id":200,"data":"c"}`, 1)})
		s = change(s, fake.SendRule(t, "r", "t", "239.1.1.{json:/id * 2}:5000", data))
		got := s.up(t, 2)
		slices.Sort(got)
		if diff := cmp.Diff([]string{"239.1.1.2:5000 a", "239.1.1.4:5000 b"}, got); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		fake.WaitFor(t, "the third to be counted", func() bool { return s.working.Rules[0].Dropped() == 1 })
	})
}

// The copies of each target go on when a message of the same topic goes to another one.
func TestCopiesAreThoseOfATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := func() mapping.SendRule {
			return fake.SendRule(t, "r", "t", "239.1.1.{u8@0 & 15}:5000", repeat(3, 20*time.Millisecond))
		}
		b, left := timing(t, rigOptions{}, rules())
		b.send.Handle([]session.Message{fake.Message("t", "1a", 1), fake.Message("t", "2a", 1)})
		time.Sleep(30 * time.Millisecond)
		b.send.Handle([]session.Message{fake.Message("t", "2b", 1)})
		time.Sleep(5 * time.Millisecond)
		b.reload(t, []mapping.SendRule{rules()}, nil)
		time.Sleep(time.Second)
		for group, want := range map[string][]string{"239.1.1.1:5000": {"1a", "1a", "1a"}, "239.1.1.2:5000": {"2a", "2a", "2b", "2b", "2b"}} {
			got, _ := left.to(group)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", group, diff)
			}
		}
		if got := b.Status().Rules[0]; got.Kept != 0 {
			t.Errorf("%d are kept", got.Kept)
		}
	})
}

// numberedPayload has the number in its first bytes.
func numberedPayload(i int) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 0, 8), uint32(i))
}

const byNumber = "239.{u8@1}.{u8@2}.{u8@3}:5000"

func TestTargetsByPayloadDoNotAllocate(t *testing.T) {
	for _, text := range []string{"239.{n}.{u8@2}.{u8@3}:{1000 + u16@2}", "{text@4:9}:{u8@3 + 1}"} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, []mapping.SendRule{fake.SendRule(t, "r", "t/{n}", text)}, nil)
		batch := make([]session.Message, 64)
		for i := range batch {
			batch[i] = session.Message{Topic: fmt.Append(nil, "t/", 1+i%3), Payload: append(numberedPayload(i%16), "239.1.2.3"...), QoS: 1}
		}
		if got := fake.Allocations(func() { b.send.Handle(batch) }); got != 0 {
			t.Errorf("%s: %v allocations for a batch of %d", text, got, len(batch))
		}
		if _, sent, _ := b.working.Rules[0].Totals(); sent == 0 || sent%64 != 0 {
			t.Errorf("%s: %d sent", text, sent)
		}
	}
}

// Who makes up payloads has no more remembered than who makes up topics.
func TestTargetsByPayloadAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		topics, targets int
		most            int // that are remembered
	}{
		"of a topic":     {1, 20_000, send.MaxEach},
		"of many topics": {40, 4000, send.MaxTopicBytes / 300},
	} {
		t.Run(name, func(t *testing.T) {
			b := newRigOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole},
				[]mapping.SendRule{fake.SendRule(t, "flooded", "t/#", byNumber, always), fake.SendRule(t, "quiet", "q/#", "239.1.1.1:5000", always)}, nil)
			b.watched.End()
			quiet := func(i int) string { return fmt.Sprint("q/", i) }
			b.unlike(1000, quiet)
			before := heap()
			batch := make([]session.Message, 0, 64)
			for i := range c.topics * c.targets {
				batch = append(batch, session.Message{Topic: fmt.Append(nil, "t/", i/c.targets), Payload: numberedPayload(i), QoS: 1})
				if len(batch) == cap(batch) {
					b.send.Handle(batch)
					batch = batch[:0]
				}
			}
			b.send.Handle(batch)
			taken := heap() - before
			_, groups, counted, _ := b.send.Topics()
			targets := b.send.EachTargets()
			if _, sent, _ := b.working.Rules[0].Totals(); int(sent) != c.topics*c.targets {
				t.Errorf("%d sent", sent)
			}
			if targets == 0 || targets > c.most || groups > targets+1+send.MaxUnused || counted > send.MaxTopicBytes || taken > counted*5/4+1<<20 {
				t.Errorf("%d targets with %d groups are remembered; they count as %d bytes and take %d", targets, groups, counted, taken)
			}
			for i := range 1000 {
				if !b.send.Remembers(quiet(i)) {
					t.Fatal("topics of another rule are forgotten")
				}
			}
			// What is beyond its part goes to others, to the last byte.
			b.unlike(20_000, func(i int) string { return long("q", i, 900) })
			_, _, all, unmatched := b.send.Topics()
			if f, q := b.working.Rules[0].TopicBytes(), b.working.Rules[1].TopicBytes(); f+q+unmatched != all || f > send.MaxTopicBytes*6/10 || f < 0 {
				t.Errorf("the rules have %d and %d bytes of %d", f, q, all)
			}
			runtime.KeepAlive(b)
		})
	}
}

func BenchmarkHandleByPayload(b *testing.B) {
	for _, targets := range []int{1, 100, 4000} {
		b.Run(fmt.Sprint("targets=", targets), func(b *testing.B) {
			n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
			br := newRigOf(b, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, []mapping.SendRule{fake.SendRule(b, "bench", "t/#", byNumber)}, nil)
			payloads := make([][]byte, targets)
			for i := range payloads {
				payloads[i] = append(numberedPayload(i), payload128[4:]...)
			}
			batch, i := make([]session.Message, 512), 0
			for b.Loop() {
				for j := range batch {
					batch[j] = session.Message{Topic: append(batch[j].Topic[:0], "t/1"...), Payload: payloads[i%targets], QoS: 1}
					i++
				}
				br.send.Handle(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/message")
		})
	}
}
