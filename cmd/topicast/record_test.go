//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"topicast/bridge/tap"
)

// recordingTo is a recording in memory.
func recordingTo(t *testing.T, to *bytes.Buffer, byTopic bool) *recording {
	t.Helper()
	r := newRecording(&recordFile{Writer: to, name: "x"}, &recordOptions{}, byTopic)
	if err := r.begin("c", nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func heard(n uint64, at time.Time, payload string) *tap.Event {
	return &tap.Event{Time: at, Direction: tap.Receive, Decision: tap.Heard, To: netip.MustParseAddrPort("239.1.2.3:5000"), Source: netip.MustParseAddrPort("10.0.0.1:4000"), Payload: []byte(payload), Datagram: n}
}

func TestARecordingIsInTheOrderOfItsTimesAndHasADatagramOnce(t *testing.T) {
	var b bytes.Buffer
	r := recordingTo(t, &b, false)
	now := time.Unix(1_900_000_000, 0)
	r.take(heard(1, now.Add(time.Millisecond), "b"), 0)
	r.take(heard(2, now, "a"), 0)
	r.take(heard(1, now.Add(time.Millisecond), "b"), 0) // by another rule
	for _, rule := range []string{"one", "two"} {
		r.take(&tap.Event{Direction: tap.Receive, Decision: tap.Published, Rule: rule, Topic: "t\n", Datagram: 1}, 0)
	}
	r.take(nil, 7)
	r.take(heard(3, now.Add(time.Millisecond), "c"), 0)
	r.take(&tap.Event{Direction: tap.Receive, Decision: tap.Filtered, Reason: "own"}, 0)
	r.take(&tap.Event{Direction: tap.Receive, Decision: tap.Dropped, Reason: "receive_buffer", Count: 9}, 0)
	if err := r.end(errors.New("the bridge has ended")); err == nil || err.Error() != "the bridge has ended" {
		t.Errorf("%v", err)
	}
	to := "239.1.2.3:5000"
	if got, want := datagramsOf(t, b.Bytes()), []string{digested(to, []byte("a")), digested(to, []byte("b")), digested(to, []byte("c"))}; !sameLines(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, want := range []string{"published, rule one, topic t\\n", "published, rule two, topic t\\n", "about here 7 events were missed", "at the end: 0 sent and 3 received; not in the file, ", "9 dropped receive_buffer", "; 7 events were missed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in the file", want)
		}
	}
}

// That there is no answer, and that answers were lost, is no datagram.
func TestARecordingHasTheAnswersThatCameAlone(t *testing.T) {
	var b bytes.Buffer
	r := recordingTo(t, &b, false)
	port, host := netip.MustParseAddrPort("172.17.0.1:46956"), netip.MustParseAddrPort("172.17.33.4:1010")
	for _, e := range []tap.Event{
		{Decision: tap.Published, Topic: "rpc/4", AnswerTopic: "back/x", To: port, Source: host, Payload: []byte("came")},
		{Decision: tap.Published, Topic: "rpc/7", AnswerTopic: "back/z", To: host, Payload: []byte("none"), Detail: "no answer: unanswered"},
		{Decision: tap.Filtered, To: port, Source: host, Payload: []byte("late"), Reason: "unasked"},
		{Decision: tap.Dropped, Reason: "receive_buffer", Count: 3},
	} {
		e.Time, e.Direction, e.Rule = time.Now(), tap.Answer, "rpc"
		if err := r.take(&e, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.end(nil); err != nil {
		t.Error(err)
	}
	if got, want := datagramsOf(t, b.Bytes()), []string{digested(port.String(), []byte("came")), digested(port.String(), []byte("late"))}; !sameLines(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, want := range []string{"answer published, rule rpc, topic rpc/4, on back/x", "answer filtered unasked, rule rpc", "2 answers", "3 dropped receive_buffer"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in the file", want)
		}
	}
}

func TestARecordingOfATopicHasNoOtherDatagrams(t *testing.T) {
	var b bytes.Buffer
	r := recordingTo(t, &b, true)
	now := time.Now()
	r.take(heard(1, now, "of another topic"), 0)
	r.take(heard(2, now, "of this"), 0)
	r.take(&tap.Event{Direction: tap.Receive, Decision: tap.Published, Rule: "one", Topic: "t", Datagram: 2}, 0)
	if err := r.end(nil); err != nil {
		t.Error(err)
	}
	if got := datagramsOf(t, b.Bytes()); !sameLines(got, []string{digested("239.1.2.3:5000", []byte("of this"))}) {
		t.Errorf("%q", got)
	}
}

func TestWhatARecordingHoldsIsBounded(t *testing.T) {
	var b bytes.Buffer
	r := recordingTo(t, &b, false)
	now := time.Now()
	for i := range maxRecordWaiting + 100 {
		r.take(heard(uint64(i+1), now, ""), 0)
	}
	long := strings.Repeat("x", 60_000)
	for i := range maxRecordBytes/60_000 + 100 {
		r.take(heard(uint64(1<<20+i), now, long), 0)
	}
	if n, bytes := len(r.window.waiting), r.window.bytes; n > maxRecordWaiting || bytes > maxRecordBytes || len(r.window.byNumber) != n {
		t.Errorf("%d wait, %d bytes", n, bytes)
	}
	for i := range 2 * maxRecordReasons {
		r.take(&tap.Event{Decision: tap.Dropped, Reason: fmt.Sprint(i)}, 0)
	}
	if n := len(r.counts.left); n > maxRecordReasons+1 || r.counts.left["others"] != maxRecordReasons {
		t.Errorf("%d reasons", n)
	}
}

// What another program did to the file is an error, and not a summary of what is not there.
func TestAFileThatIsMeddledWithIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		meddle func(path string) error
		want   string
	}{
		"removed": {os.Remove, "was removed or replaced"},
		"replaced": {func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("12345"), 0o600))
		}, "was removed or replaced"},
		"cut":  {func(path string) error { return os.Truncate(path, 2) }, "was cut"},
		"left": {func(string) error { return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.pcapng")
			f, err := new(recordOptions).create(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("12345")); err != nil {
				t.Fatal(err)
			}
			if err := c.meddle(path); err != nil {
				t.Fatal(err)
			}
			err = f.close(5)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
