package tap_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/tap"
)

var group = netip.MustParseAddrPort("239.1.2.3:5000")

func watch(t testing.TB, on *tap.Tap, f tap.Filter) *tap.Watcher {
	t.Helper()
	w, err := on.Watch(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func TestWhoWatchesIsToldOfWhatItAsksForAlone(t *testing.T) {
	events := []tap.Event{
		{Rule: "lamps", Topic: "lamp/1", To: group, Decision: tap.Sent},
		{Rule: "lamps@eth0", Topic: "lamp/2", To: netip.AddrPortFrom(group.Addr(), 6000), Decision: tap.Waiting},
		{Rule: "lampshade", To: netip.MustParseAddrPort("10.0.0.7:1"), Decision: tap.Dropped, Reason: "source"},
		{Topic: "stray", Decision: tap.Filtered},
		{Rule: "rpc", Direction: tap.Answer, Topic: "rpc/4", AnswerTopic: "back/x", Decision: tap.Published},
	}
	for name, c := range map[string]struct {
		filter tap.Filter
		want   string
	}{
		"everything":     {tap.Filter{}, "01234"},
		"rule":           {tap.Filter{Rule: "lamps"}, "01"},
		"instance":       {tap.Filter{Rule: "lamps@eth0"}, "1"},
		"part of a name": {tap.Filter{Rule: "lamp"}, ""},
		"group":          {tap.Filter{To: group}, "0"},
		"any port":       {tap.Filter{To: netip.AddrPortFrom(group.Addr(), 0)}, "01"},
		"lost":           {tap.Filter{Lost: true}, "23"},
		"topic":          {tap.Filter{Topic: func(s string) bool { return strings.HasPrefix(s, "lamp/") }}, "01"},
		"of a request":   {tap.Filter{Topic: func(s string) bool { return s == "rpc/4" }}, "4"},
		"of an answer":   {tap.Filter{Topic: func(s string) bool { return s == "back/x" }}, "4"},
		"two":            {tap.Filter{Rule: "lamps", To: group}, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				on := new(tap.Tap)
				w := watch(t, on, c.filter)
				for _, e := range events {
					on.Tell(e)
				}
				told, missed, err := w.Next(t.Context())
				got := ""
				for _, e := range told {
					for i := range events {
						if e.Rule == events[i].Rule && e.Topic == events[i].Topic {
							got += string(rune('0' + i))
						}
					}
				}
				if got != c.want || missed != 0 || err != nil {
					t.Errorf("told of %q, missed %d, %v; want %q", got, missed, err, c.want)
				}
			})
		})
	}
}

// Who looks for a text is told of what has it anywhere, and who wants few at a time misses the others.
func TestATextIsLookedForInAllThatAnEventSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := tap.Event{Rule: "Lamps", Topic: "site/3/Lampe-Ö", Interface: "iso0", To: group, Source: netip.MustParseAddrPort("[2001:db8::1]:40000"),
			Decision: tap.Dropped, Direction: tap.Send, Reason: "bad_group", Detail: "out of range", AnswerTopic: "back/7"}
		for text, want := range map[string]bool{
			"": true, "lamps": true, "LAMPS": true, "lampe-Ö": true, "lampe-ö": false, "iso0": true, "239.1.2.3": true, ":5000": true, "2001:db8::": true,
			"bad_": true, "range": true, "back/7": true, "dropped": true, "send": true, "lampsx": false, "iso1": false, "239.1.2.4": false,
		} {
			on := new(tap.Tap)
			w := watch(t, on, tap.Filter{Text: text})
			on.Tell(e)
			if events, _, _ := w.Next(t.Context()); (len(events) == 1) != want {
				t.Errorf("%q: told %d", text, len(events))
			}
		}
		on := new(tap.Tap)
		w := watch(t, on, tap.Filter{Most: 3})
		for range 10 {
			on.Tell(e)
		}
		if events, missed, _ := w.Next(t.Context()); len(events) != 3 || missed != 7 {
			t.Errorf("%d, and %d missed", len(events), missed)
		}
	})
}

// What is told lies in a buffer that is used again at once.
func TestPayloadsAreCopiedAsFarAsTheyAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := new(tap.Tap)
		none, some, all := watch(t, on, tap.Filter{}), watch(t, on, tap.Filter{Payload: 3}), watch(t, on, tap.Filter{Payload: 1 << 16})
		buffer := []byte("hello")
		on.Tell(tap.Event{Payload: buffer, Bytes: 5})
		copy(buffer, "world")
		on.Tell(tap.Event{Payload: buffer, Bytes: 5})
		for want, w := range map[string]*tap.Watcher{"": none, "hel wor": some, "hello world": all} {
			events, _, _ := w.Next(t.Context())
			if got := strings.TrimSpace(string(events[0].Payload) + " " + string(events[1].Payload)); got != want || events[1].Bytes != 5 {
				t.Errorf("%q, want %q", got, want)
			}
		}
	})
}

func TestASlowWatcherMissesEventsAndIsToldHowManyAndNobodyElseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := new(tap.Tap)
		slow, quick := watch(t, on, tap.Filter{}), watch(t, on, tap.Filter{})
		const all = 100_000
		quickly := 0
		for i := range all {
			on.Tell(tap.Event{Bytes: i})
			if i%4000 == 3999 {
				events, missed, _ := quick.Next(t.Context())
				if quickly += len(events); missed != 0 {
					t.Fatalf("the quick one missed %d", missed)
				}
			}
		}
		events, missed, _ := slow.Next(t.Context())
		if quickly != all || len(events) != 4096 || len(events)+int(missed) != all || events[4095].Bytes != 4095 {
			t.Errorf("the quick one has %d; the slow one %d, and missed %d", quickly, len(events), missed)
		}
		on.Tell(tap.Event{Bytes: all})
		if events, missed, _ = slow.Next(t.Context()); len(events) != 1 || events[0].Bytes != all || missed != 0 {
			t.Errorf("then %d, and missed %d", len(events), missed)
		}
	})
}

func TestTheBytesThatAreKeptAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, e := range []tap.Event{{Topic: strings.Repeat("t", 1<<16)}, {Detail: strings.Repeat("t", 1<<16)}, {AnswerTopic: strings.Repeat("t", 1<<16)}} {
			on := new(tap.Tap)
			w := watch(t, on, tap.Filter{})
			for range 20 {
				on.Tell(e)
			}
			if events, missed, _ := w.Next(t.Context()); len(events) != 16 || missed != 4 {
				t.Errorf("%d events of 64 KiB each, missed %d; want 1 MiB of them", len(events), missed)
			}
		}
		on := new(tap.Tap)
		w := watch(t, on, tap.Filter{Payload: 1 << 16})
		for range 20 {
			on.Tell(tap.Event{Payload: make([]byte, 1<<16)})
		}
		if events, missed, _ := w.Next(t.Context()); len(events) != 16 || missed != 4 {
			t.Errorf("%d events with 64 KiB each, missed %d; want 1 MiB of them", len(events), missed)
		}
	})
}

func TestWatchersAreBoundedAndGiveTheirPlaceBack(t *testing.T) {
	on := new(tap.Tap)
	var all []*tap.Watcher
	for range tap.MaxWatchers {
		all = append(all, watch(t, on, tap.Filter{}))
	}
	if _, err := on.Watch(tap.Filter{}); !errors.Is(err, tap.ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	all[1].Close()
	watch(t, on, tap.Filter{})
	for _, w := range all {
		w.Close()
	}
	if !on.On() {
		t.Error("nobody watches, though one does")
	}
}

func TestNextEndsWithItsContextAndBringsWhatThereIs(t *testing.T) {
	on := new(tap.Tap)
	w := watch(t, on, tap.Filter{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	on.Tell(tap.Event{})
	if events, _, err := w.Next(ctx); !errors.Is(err, context.Canceled) || len(events) != 1 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

// A recording needs it whole.
func TestAnEventIsTheSameAfterJSON(t *testing.T) {
	e := tap.Event{
		Time: time.Date(2026, 3, 1, 2, 3, 4, 123456789, time.UTC), Direction: tap.Receive, Decision: tap.Published, Rule: "meters", Topic: "a/b",
		To: group, Source: netip.MustParseAddrPort("[fe80::1%eth0]:9"), Interface: "eth0", Bytes: 3, Latency: 17, Payload: []byte{0, 255, 10},
	}
	text := e.AppendJSON(nil)
	var got tap.Event
	if err := json.Unmarshal(text, &got); err != nil || string(got.Payload) != string(e.Payload) || !got.Time.Equal(e.Time) || got.Source != e.Source || got.To != e.To || got.Latency != e.Latency {
		t.Errorf("%s: %+v, %v", text, got, err)
	}
	for _, e := range []tap.Event{e, {}, {Rule: "a\"\\\n\xff\u2028ü<", Topic: "\x1b[31m", Reason: "r", Detail: "<d>", Count: 3, TTL: 255, Datagram: 1 << 60, AnswerTopic: "back/ü"}} {
		want, err := json.Marshal(&e)
		var a, b any
		if err != nil || json.Unmarshal(want, &a) != nil || json.Unmarshal(e.AppendJSON(nil), &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s, want %s", e.AppendJSON(nil), want)
		}
	}
	if text := (&tap.Event{Direction: tap.Send, Decision: tap.Dropped}).AppendJSON(nil); strings.Contains(string(text), "source") || strings.Contains(string(text), "payload") {
		t.Errorf("what is not known is there: %s", text)
	}
}

func TestTellingAllocatesNothing(t *testing.T) {
	on, payload := new(tap.Tap), []byte("hello")
	tell := func() {
		if on.On() {
			on.Tell(tap.Event{Topic: "a/b", Payload: payload, To: group})
		}
	}
	if n := testing.AllocsPerRun(1000, tell); n != 0 {
		t.Errorf("%v allocations with nobody watching", n)
	}
	w := watch(t, on, tap.Filter{Payload: 64})
	for range 2 {
		for range 2000 {
			tell()
		}
		w.Next(t.Context())
	}
	if n := testing.AllocsPerRun(1000, tell); n != 0 {
		t.Errorf("%v allocations with one who watches", n)
	}
	w.Close()
	looks := watch(t, on, tap.Filter{Text: "nowhere"})
	defer looks.Close()
	tell = func() {
		on.Tell(tap.Event{Topic: "a/b", To: group, Source: netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:40000")})
	}
	if n := testing.AllocsPerRun(1000, tell); n != 0 {
		t.Errorf("%v allocations with one who looks for a text", n)
	}
}

func BenchmarkTell(b *testing.B) {
	for name, f := range map[string]*tap.Filter{"nobody watches": nil, "one watches": {Payload: 64}, "one watches some": {Payload: 64, Most: 25}, "one looks for a text": {Text: "nowhere"}} {
		b.Run(name, func(b *testing.B) {
			on := new(tap.Tap)
			if f != nil {
				w := watch(b, on, *f)
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				go func() {
					for {
						if _, _, err := w.Next(ctx); err != nil {
							return
						}
					}
				}()
			}
			payload := make([]byte, 100)
			for b.Loop() {
				if on.On() {
					on.Tell(tap.Event{Topic: "a/b", Payload: payload, To: group, Decision: tap.Sent})
				}
			}
		})
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	e := tap.Event{Time: time.Now(), Direction: tap.Send, Decision: tap.Sent, Rule: "lamps", Topic: "site/3/lamp/7/set", To: group, Source: group, Interface: "eth0", Bytes: 64, Latency: 12345, Payload: make([]byte, 64)}
	var line []byte
	for b.Loop() {
		line = e.AppendJSON(line[:0])
	}
}

// What was heard is for those who ask for it, with the whole of what came; what is decided about it has
// the same number, and no payload for them.
func TestWhatWasHeardIsToldToThoseWhoAskForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := new(tap.Tap)
		if on.Number() != 0 {
			t.Error("with nobody watching datagrams are numbered")
		}
		plain, hears := watch(t, on, tap.Filter{Payload: 100}), watch(t, on, tap.Filter{Payload: 100, Heard: true, Lost: true, Topic: func(s string) bool { return s == "t" }})
		a, b := on.Number(), on.Number()
		if a == 0 || a == b {
			t.Errorf("numbers %d and %d", a, b)
		}
		on.Tell(tap.Event{Decision: tap.Heard, Payload: []byte("as it came"), Datagram: a})
		on.Tell(tap.Event{Decision: tap.Dropped, Topic: "t", Payload: []byte("a part"), Datagram: a})
		on.Tell(tap.Event{Decision: tap.Published, Topic: "t", Payload: []byte("a part"), Datagram: b})
		told := func(w *tap.Watcher) (all string) {
			events, _, _ := w.Next(t.Context())
			for _, e := range events {
				all += string(e.Decision) + "(" + string(e.Payload) + ") "
			}
			return all
		}
		if got, want := told(plain), "dropped(a part) published(a part) "; got != want {
			t.Errorf("who does not ask is told %q, want %q", got, want)
		}
		if got, want := told(hears), "heard(as it came) dropped() "; got != want {
			t.Errorf("who asks is told %q, want %q", got, want)
		}
	})
}
