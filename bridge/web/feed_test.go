package web

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"topicast/bridge/tap"
)

// at is a network in memory that says it listens at an address.
type at struct {
	pipes
	ip string
}

func (l at) Addr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(l.ip), Port: 9479} }

// Payloads are for those who are on this host: what counts is where it listens, and not who asks.
func TestTheFeedHasPayloadsOnLoopbackAlone(t *testing.T) {
	for ip, want := range map[string]bool{"127.0.0.1": true, "127.0.0.7": true, "::1": true, "0.0.0.0": false, "::": false, "192.0.2.1": false, "": false} {
		on := new(tap.Tap)
		servingAt(t, ip, Options{Tap: on}, newFake(busy), func(t *testing.T, _ *Server, dial func() net.Conn) {
			r, _ := open(t, dial(), "/feed")
			if m, _ := next[fed](r); m.Payloads != want {
				t.Errorf("at %q: payloads %v", ip, m.Payloads)
			}
			on.Tell(tap.Event{Rule: "lamps", Topic: "t", Payload: []byte(strings.Repeat("secret", 100)), Bytes: 600})
			m, _ := next[fed](r)
			var e tap.Event
			if len(m.Events) != 1 || json.Unmarshal(m.Events[0], &e) != nil || e.Rule != "lamps" || e.Topic != "t" || e.Bytes != 600 {
				t.Fatalf("at %q: %s", ip, m.Events)
			}
			if n := len(e.Payload); want && n != fedPayload || !want && n != 0 {
				t.Errorf("at %q: %d bytes of payload", ip, n)
			}
		})
	}
}

// Nobody watches unless a feed is open; a feed is told so much and no more, and how much it missed.
func TestAFeedIsBoundedAndToldWhatItMissed(t *testing.T) {
	on := new(tap.Tap)
	servingAs(t, Options{Tap: on}, newFake(busy), func(t *testing.T, _ *Server, dial func() net.Conn) {
		open(t, dial(), "/events")
		if on.On() {
			t.Error("a page watches without a feed")
		}
		c := dial()
		r, _ := open(t, c, "/feed")
		next[fed](r)
		for range 100_000 {
			on.Tell(tap.Event{Rule: "flood"})
		}
		if m, _ := next[fed](r); len(m.Events) != maxFed || m.Missed != 100_000-maxFed {
			t.Errorf("%d, and %d missed", len(m.Events), m.Missed)
		}
		if m, _ := next[fed](r); len(m.Events) != 0 || m.Missed != 0 {
			t.Errorf("then %d, and %d missed", len(m.Events), m.Missed)
		}
		// As many as there may be, which leaves places for topicast tap.
		for i := range maxFeeds {
			want := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}[i+1 < maxFeeds]
			if _, code := open(t, dial(), "/feed"); code != want {
				t.Errorf("feed %d: %d, want %d", i+2, code, want)
			}
		}
		for range tap.MaxWatchers - maxFeeds {
			if _, err := on.Watch(tap.Filter{}); err != nil {
				t.Error(err)
			}
		}
		c.Close()
		time.Sleep(2 * samplePeriod)
		if _, code := open(t, dial(), "/feed"); code != http.StatusOK {
			t.Errorf("in place of one that has gone: %d", code)
		}
	})
}

func TestAFeedIsNarrowed(t *testing.T) {
	on := new(tap.Tap)
	servingAs(t, Options{Tap: on}, newFake(busy), func(t *testing.T, _ *Server, dial func() net.Conn) {
		r, _ := open(t, dial(), "/feed?match=LAMP&lost=true")
		next[fed](r)
		for i, e := range []tap.Event{{Rule: "lamps", Decision: tap.Sent}, {Rule: "blinds", Decision: tap.Dropped}, {Topic: "a/lamp/7", Decision: tap.Dropped}} {
			e.Bytes = i
			on.Tell(e)
		}
		if m, _ := next[fed](r); len(m.Events) != 1 || !strings.Contains(string(m.Events[0]), `"bytes":2`) {
			t.Errorf("told of %s", m.Events)
		}
	})
	for query, want := range map[string]string{"lost=perhaps": `lost="perhaps" is not true or false`, "topic=a": `there is no parameter "topic"; there are match and lost`} {
		if code, _, body := get(t, newFake(busy), "/feed?"+query); code != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", query, code, fmt.Sprint(body))
		}
	}
}
