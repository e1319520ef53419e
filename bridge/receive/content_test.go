package receive_test

import (
	"net/netip"
	"strings"
	"testing/synctest"
	"time"

	"testing"
	"topicast/bridge/loopguard"
	"topicast/bridge/receive"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func when(t testing.TB, text string) func(*mapping.ReceiveRule) {
	t.Helper()
	c, err := mapping.ParseDatagramCondition(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *mapping.ReceiveRule) { r.When = c }
}

// Two kinds of datagrams of one sender, each by a rule of its own: what is not of a kind
// neither supersedes nor changes anything.
func TestOnlyDatagramsThatSatisfyTheConditionArePublished(t *testing.T) {
	onChange := func(r *mapping.ReceiveRule) { r.OnChange = true }
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "readings", "239.1.1.1:5000", "reading", when(t, "u16@0 == 0x4142"), onChange),
		fake.ReceiveRule(t, "others", "239.1.1.1:5000", "other", when(t, `!(u16@0 == 0x4142) && source == "172.17.0.9"`)),
		fake.ReceiveRule(t, "all", "239.1.1.1:5000", "all"),
	}
	var status rigStatus
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "AB1", "CD1", "AB1", "A", "AB2")
		b.receive.StopReceivers(&b.readers)
		status = b.Status()
	})
	want := []string{
		"reading AB1", "all AB1", "other CD1", "all CD1", "all AB1", "all A", "reading AB2", "all AB2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	for i, want := range []map[string]uint64{{"when": 2, "unchanged": 1}, {"when": 4}, nil} {
		if diff := cmp.Diff(want, status.Receive[i].Filtered); diff != "" {
			t.Errorf("%s filtered (-want +got):\n%s", status.Receive[i].Name, diff)
		}
	}
}

func split(s mapping.Split) func(*mapping.ReceiveRule) {
	return func(r *mapping.ReceiveRule) { r.Split = s }
}

// heard runs rules on datagrams to one group, and returns what came of them.
func heard(t *testing.T, o rigOptions, rules []mapping.ReceiveRule, datagrams ...string) (lines []string, status rigStatus) {
	t.Helper()
	lines = receiving(t, o, nil, rules, func(b *rig, n *fake.Network) {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, datagrams...)
		b.receive.StopReceivers(&b.readers)
		status = b.Status()
	})
	return lines, status
}

func TestADatagramIsSplitAndEachMessageHasItsTopicAndItsCondition(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "kinds", "239.1.1.1:5000", "nmea/{text@1:5}", split(mapping.SplitLine)),
		fake.ReceiveRule(t, "places", "239.1.1.1:5000", "places", split(mapping.SplitLine), when(t, `text@3:3 == "GGA"`)),
		fake.ReceiveRule(t, "nul", "239.1.1.1:5000", "nul", split(mapping.SplitNUL), func(r *mapping.ReceiveRule) { r.OnChange = true }),
	}
	got, status := heard(t, rigOptions{}, rules, "$GPGGA,1\r\n$GPRMC,2\r\n", "\r\n", "$GPGGA,3\x00$GPGGA,3", "$G\n$/////x\n")
	want := []string{
		"nmea/GPGGA $GPGGA,1", "nmea/GPRMC $GPRMC,2", "places $GPGGA,1", "nul $GPGGA,1\r\n$GPRMC,2\r\n",
		"nul \r\n",
		"nmea/GPGGA $GPGGA,3\x00$GPGGA,3", "places $GPGGA,3\x00$GPGGA,3", "nul $GPGGA,3",
		"nul $G\n$/////x\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	for i, want := range []map[string]uint64{{"empty": 1}, {"empty": 1, "when": 3}, {"unchanged": 1}} {
		if diff := cmp.Diff(want, status.Receive[i].Filtered); diff != "" {
			t.Errorf("%s filtered (-want +got):\n%s", status.Receive[i].Name, diff)
		}
	}
	if diff := cmp.Diff(map[string]uint64{"field": 1, "bad_topic": 1}, status.Receive[0].Drops); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}

func TestADatagramBringsSoManyMessagesAndNoMore(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", split(mapping.SplitLine))}
	got, status := heard(t, rigOptions{}, rules, strings.Repeat("a\n", receive.MaxParts+7), "b")
	if len(got) != receive.MaxParts+1 || got[len(got)-1] != "t b" || status.Receive[0].Drops["oversize"] != 7 {
		t.Errorf("%d messages, %v", len(got), status.Receive[0].Drops)
	}
}

// What is remembered of topics that senders make up is bounded, and forgetting loses nothing:
// every and on_change know what they knew.
func TestTopicsThatStandInDatagramsAreBounded(t *testing.T) {
	const n = 3000
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t/{u16@0}")}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, network *fake.Network) {
		b.receive.SetPayloadTopicBytes(64 << 10)
		b.reload(t, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "s", "239.1.1.1:5000", "t/{u16@0}")})
		at := network.At("239.1.1.1:5000", "iso0")
		for i := range n {
			at.Hear(fake.Device, string([]byte{byte(i >> 8), byte(i)}))
		}
		synctest.Wait()
		if got := len(b.publisher().Published()); got != n {
			t.Errorf("%d messages, want %d", got, n)
		}
		topics, bytes := b.working.Rules[0].PayloadTopics()
		if bytes > 64<<10 || topics == 0 || topics > 300 {
			t.Errorf("%d topics are remembered, of %d bytes", topics, bytes)
		}
		b.reload(t, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "other", "239.1.1.1:5000", "t")})
		if used := b.receive.PayloadTopicBytes(); used != 0 {
			t.Errorf("%d bytes are still taken for topics of a rule that is gone", used)
		}
	})
}

// A rule on a cycle that splits knows the whole datagram again that another bridge has sent.
func TestWhatComesBackIsKnownBeforeItIsSplit(t *testing.T) {
	send := []mapping.SendRule{fake.SendRule(t, "s", "t/+", "239.1.1.1:5000")}
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t/{text@0:1}", split(mapping.SplitLine))}
	got := receiving(t, rigOptions{Loops: guarded}, send, rules, func(b *rig, n *fake.Network) {
		b.receive.Guard().Add(loopguard.SentDigest(int32(fake.Iso0.Index), netip.MustParseAddrPort("239.1.1.1:5000"), []byte("a\nb\n")), time.Now())
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "a\nb\n", "c\nd\n")
		synctest.Wait()
		if f := b.Status().Receive[0].Filtered; f["loop"] != 1 {
			t.Errorf("filtered %v, want one loop", f)
		}
	})
	if diff := cmp.Diff([]string{"t/c c", "t/d d"}, got); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}
