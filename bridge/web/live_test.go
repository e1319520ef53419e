package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// changing is a bridge whose status the test changes, and that counts how often it is asked.
type changing struct {
	fake
	mu               sync.Mutex
	snapshots, looks int
	panics           bool
}

func newChanging() *changing {
	s := busy
	s.Rules, s.Receive = slices.Clone(busy.Rules), slices.Clone(busy.Receive)
	for i := range s.Rules {
		s.Rules[i].Place = i
	}
	for i := range s.Receive {
		s.Receive[i].Place = len(s.Rules) + i
	}
	return &changing{fake: newFake(s)}
}

// change changes the status.
func (c *changing) change(f func(s *bridge.Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
}

func (c *changing) Snapshot(q bridge.Query) (bridge.Status, iter.Seq[send.Status], iter.Seq[receive.Status]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshots++
	if c.panics {
		panic("broken")
	}
	s, _, _ := c.fake.Snapshot(q)
	return s, slices.Values(slices.Clone(c.status.Rules)), slices.Values(slices.Clone(c.status.Receive))
}

func (c *changing) Counts() iter.Seq[bridge.RuleCounts] {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	return slices.Values(slices.Collect(c.fake.Counts()))
}

// asked is how often it was asked for its status, and for its counts.
func (c *changing) asked() (snapshots, looks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshots, c.looks
}

// reader reads the events of a stream.
type reader struct {
	t     *testing.T
	lines *bufio.Reader
}

// open asks for a stream, and returns it once it has begun; code is not 200 where it was refused.
func open(t *testing.T, c net.Conn, path string) (r *reader, code int) {
	t.Helper()
	askFor(t, c, path)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode == http.StatusOK {
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"} {
			if got := answer.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
	return &reader{t, bufio.NewReader(answer.Body)}, answer.StatusCode
}

// told is a message, with the rules decoded too.
type told struct {
	message
	Rules map[string]fields `json:"rules"`
}

// next is the next event, decoded; ok is false at the end.
func next[T any](r *reader) (m T, ok bool) {
	r.t.Helper()
	line, err := r.lines.ReadString('\n')
	if err != nil {
		return m, false
	}
	end, err := r.lines.ReadString('\n')
	text, is := strings.CutPrefix(line, "data: ")
	if !is || end != "\n" || err != nil {
		r.t.Fatalf("%q, then %q is no event (%v)", line, end, err)
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		r.t.Fatal(err)
	}
	return m, true
}

// A page is told all once, and from then on what changes, every two seconds.
func TestAnOpenPageIsToldWhatChanges(t *testing.T) {
	b := newChanging()
	serving(t, Options{}, b, func(t *testing.T, dial func() net.Conn) {
		r, _ := open(t, dial(), "/events?sort=trouble")
		all, _ := next[told](r)
		if got := slices.Sorted(maps.Keys(all.Rules)); !all.Full || !slices.Equal(got, []string{"lamps", "meters", "quiet", "well"}) || all.Order == nil || !slices.Equal(*all.Order, []string{"well", "lamps", "quiet", "meters"}) {
			t.Fatalf("first it is told %+v", all)
		}
		if string(all.Rules["meters"]["direction"]) != `"receive"` || string(all.Rules["lamps"]["state"]) != `"pending"` || string(all.Head["ready"]) != "false" {
			t.Errorf("it is told %s", all.Rules)
		}
		next[told](r) // a sample without news
		b.change(func(s *bridge.Status) {
			s.Rules[0].Received += 500
			s.Rules[0].Reason = "for a while"
			s.NoRule = 7
		})
		began := time.Now()
		m, _ := next[told](r)
		if took := time.Since(began); took > samplePeriod {
			t.Errorf("it is told after %v", took)
		}
		if m.Full || len(m.Rules) != 1 || len(m.Rules["well"]) != 2 || string(m.Rules["well"]["messages_received"]) != "500" || len(m.Head) != 1 || string(m.Head["no_rule"]) != "7" || m.Order != nil {
			t.Errorf("it is told %+v", m)
		}
		if !slices.Equal(m.In, []uint32{500, 0, 0, 0}) || !slices.Equal(m.Lost, []uint32{0, 0, 0, 0}) || m.Totals[sendIn][0] != 500 {
			t.Errorf("the points are %v %v %v", m.In, m.Lost, m.Totals)
		}
		// What is gone is null, and so is a rule out of the order; one that comes is told with its graph.
		b.change(func(s *bridge.Status) {
			s.Rules[0].Reason = ""
			s.Rules[1].Drops = map[string]uint64{"pending": 20}
			s.Receive = s.Receive[:1]
		})
		if m, _ = next[told](r); string(m.Rules["well"]["reason"]) != "null" || !slices.Equal(*m.Order, []string{"well", "lamps", "quiet"}) || !slices.Equal(m.Lost, []uint32{0, 8, 0}) {
			t.Errorf("it is told %+v", m)
		}
		// Who opens another page sees what has been.
		other, _ := open(t, dial(), "/events?sort=trouble")
		if all, _ = next[told](other); !slices.Equal(all.Past["well"].In, []uint32{500, 0}) || !slices.Equal(all.Past["lamps"].Lost, []uint32{8}) || all.Totals[dropped][0] != 8 {
			t.Errorf("another page is told %+v, %v", all.Past, all.Totals)
		}
		if m, _ := next[told](r); m.In != nil {
			t.Errorf("the first one is told a point that is none: %v", m.In)
		}
	})
}

func TestWhatAPageAsksForWronglyIsRefused(t *testing.T) {
	for query, want := range map[string]string{"limit=1001": "limit=1001 is more than 1000", "sort=size": "is not table", "rows=1": `there is no parameter "rows"`} {
		if code, _, body := get(t, newFake(busy), "/events?"+query); code != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", query, code, body)
		}
	}
}

// While no page is open nothing is looked at. The graphs go on for a while after the last was closed, so
// that who loads it anew finds them, and then they are let go.
func TestNothingIsSampledWhileNoPageIsOpen(t *testing.T) {
	b := newChanging()
	var s *Server
	servingAs(t, Options{}, b, func(t *testing.T, server *Server, dial func() net.Conn) {
		s = server
		time.Sleep(time.Hour)
		if snapshots, looks := b.asked(); snapshots != 0 || looks != 0 {
			t.Errorf("with no page it was asked for %d, and counted %d times", snapshots, looks)
		}
		c := dial()
		r, _ := open(t, c, "/events")
		for range 10 {
			next[told](r)
		}
		b.change(func(s *bridge.Status) { s.Rules[0].Received += 10 })
		next[told](r)
		c.Close()
		synctest.Wait()
		before, _ := b.asked()
		time.Sleep(time.Minute)
		if after, _ := b.asked(); after != before {
			t.Errorf("with no page it was asked for %d times", after-before)
		}
		c = dial()
		r, _ = open(t, c, "/events")
		if all, _ := next[told](r); all.Past["well"].In[0] != 10 {
			t.Errorf("loaded anew it has %v", all.Past)
		}
		c.Close()
		time.Sleep(keepGraphs + time.Minute)
		_, before = b.asked()
		time.Sleep(time.Hour)
		s.live.mu.Lock()
		defer s.live.mu.Unlock()
		if _, after := b.asked(); after != before || s.live.running || s.live.past != nil {
			t.Errorf("long after the last it counted %d times; %v", after-before, s.live.running)
		}
	})
}

// Pages that are live leave places to others, and so do those that have gone.
func TestPagesThatAreLiveAreBounded(t *testing.T) {
	b := newChanging()
	serving(t, Options{}, b, func(t *testing.T, dial func() net.Conn) {
		var all []net.Conn
		for i := range maxStreams {
			c := dial()
			if _, code := open(t, c, fmt.Sprintf("/events?limit=%d", 1+i%2)); code != http.StatusOK {
				t.Fatalf("page %d: %d", i, code)
			}
			all = append(all, c)
		}
		if _, code := open(t, dial(), "/events"); code != http.StatusServiceUnavailable {
			t.Errorf("one too many: %d", code)
		}
		for _, path := range []string{"/healthz", "/metrics", "/status"} {
			if !answered(t, dial(), path) {
				t.Errorf("%s is not answered", path)
			}
		}
		all[0].Close()
		synctest.Wait()
		time.Sleep(samplePeriod) // until it is found out
		synctest.Wait()
		if _, code := open(t, dial(), "/events"); code != http.StatusOK {
			t.Errorf("in place of one that has gone: %d", code)
		}
	})
	serving(t, Options{Descriptors: 32}, b, func(t *testing.T, dial func() net.Conn) { // 8 connections
		for i, want := range []int{200, 200, 503} {
			if _, code := open(t, dial(), "/events"); code != want {
				t.Errorf("page %d of few descriptors: %d", i, code)
			}
		}
	})
}

// All pages that ask for the same are told by one look.
func TestOneLookIsForAllWhoAskForTheSame(t *testing.T) {
	b := newChanging()
	serving(t, Options{}, b, func(t *testing.T, dial func() net.Conn) {
		for range maxStreams {
			r, _ := open(t, dial(), "/events")
			go func() {
				for {
					if _, ok := next[told](r); !ok {
						return
					}
				}
			}()
		}
		time.Sleep(time.Second / 2)
		before, _ := b.asked()
		time.Sleep(20 * samplePeriod)
		if after, _ := b.asked(); after-before != 20 {
			t.Errorf("%d looks in 20 periods", after-before)
		}
	})
	b = newChanging()
	serving(t, Options{}, b, func(t *testing.T, dial func() net.Conn) {
		r, _ := open(t, dial(), "/events")
		next[told](r)
		other, _ := open(t, dial(), "/events?limit=1")
		next[told](other)
		if looks, _ := b.asked(); looks != 2 {
			t.Errorf("%d looks for two pages that have just been opened", looks)
		}
	})
}

// Who reads nothing is let go, and delays nobody; who reads late is told all, and not what is old.
func TestAPageThatReadsNothingIsLetGo(t *testing.T) {
	b := newChanging()
	serving(t, Options{}, b, func(t *testing.T, dial func() net.Conn) {
		slow := dial()
		late, _ := open(t, slow, "/events")
		quick, _ := open(t, dial(), "/events")
		began := time.Now()
		next[told](late)
		for range 4 { // one in the pipe, one that waits, and others that are missed
			b.change(func(s *bridge.Status) { s.NoRule++ })
			next[told](quick)
		}
		if took := time.Since(began); took > 4*samplePeriod {
			t.Errorf("the quick one waited, for %v", took)
		}
		full := 0
		for range 6 {
			m, ok := next[told](late)
			if ok && m.Full {
				full++
				if string(m.Head["no_rule"]) != "4" {
					t.Errorf("it is told %s", m.Head["no_rule"])
				}
				break
			}
			next[told](quick)
		}
		if full != 1 {
			t.Error("who was late is not told all")
		}
		go func() {
			for {
				if _, ok := next[told](quick); !ok {
					return
				}
			}
		}()
		time.Sleep(writePatience + 2*samplePeriod)
		if !gone(slow) {
			t.Error("who reads nothing is waited for")
		}
	})
}

// A page on a wall stays open: no time of an answer ends it.
func TestAPageStaysOpen(t *testing.T) {
	serving(t, Options{}, newChanging(), func(t *testing.T, dial func() net.Conn) {
		r, _ := open(t, dial(), "/events")
		for began := time.Now(); time.Since(began) < 3*maxAnswer; {
			if _, ok := next[told](r); !ok {
				t.Fatalf("it ended after %v", time.Since(began))
			}
		}
	})
}

// The end of the server is the end of its streams, at once: they are no answers that finish.
func TestTheEndOfTheServerEndsItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := pipes{make(chan net.Conn)}
		s := serverOn(network, Options{}, newChanging())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Serve(ctx) }()
		page, _ := open(t, network.dial(), "/events")
		feed, _ := open(t, network.dial(), "/feed")
		next[told](page)
		next[fed](feed)
		began := time.Now()
		stop()
		for name, r := range map[string]*reader{"events": page, "feed": feed} {
			if _, err := io.Copy(io.Discard, r.lines); err != nil {
				t.Errorf("%s is cut off: %v", name, err)
			}
		}
		if err := <-ended; err != nil || time.Since(began) > 500*time.Millisecond {
			t.Errorf("it took %v, %v", time.Since(began), err)
		}
		time.Sleep(2 * time.Second) // the grace of Shutdown
	})
}

// A fault of the page ends the page, and is told; the next one begins anew.
func TestAFaultOfThePageEndsNothingElse(t *testing.T) {
	b := newChanging()
	var log strings.Builder
	serving(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, b, func(t *testing.T, dial func() net.Conn) {
		b.change(func(*bridge.Status) { b.panics = true })
		r, _ := open(t, dial(), "/events")
		if _, ok := next[told](r); ok {
			t.Error("it is told something")
		}
		if !strings.Contains(log.String(), "the status page could not be renewed") {
			t.Errorf("the log says %q", &log)
		}
		b.change(func(*bridge.Status) { b.panics = false })
		r, _ = open(t, dial(), "/events")
		if m, ok := next[told](r); !ok || !m.Full {
			t.Error("the next one is told nothing")
		}
	})
}

// A page of another site gets nothing, and takes no place.
func TestPagesOfOthersAreRefused(t *testing.T) {
	handler := checkHost(nil, pages(newFake(busy)))
	for _, path := range []string{"/events", "/feed", "/rule?name=lamps"} {
		for _, c := range []struct {
			headers []string
			want    int
		}{
			{nil, 200},
			{[]string{"Sec-Fetch-Site", "same-origin"}, 200},
			{[]string{"Sec-Fetch-Site", "none"}, 200},
			{[]string{"Sec-Fetch-Site", "same-origin", "Origin", "https://proxy.example"}, 200}, // behind one that has its own name for us
			{[]string{"Origin", "http://127.0.0.1:9479"}, 200},
			{[]string{"Sec-Fetch-Site", "cross-site"}, 403},
			{[]string{"Sec-Fetch-Site", "same-site"}, 403},
			{[]string{"Origin", "http://evil.example"}, 403},
			{[]string{"Origin", "http://127.0.0.1:80"}, 403},
			{[]string{"Origin", "null"}, 403},
			{[]string{"Host", "evil.example"}, 421},
			{[]string{"Host", "evil.example", "Origin", "http://evil.example"}, 421},
		} {
			r := httptest.NewRequest("HEAD", path, nil)
			r.Host = "127.0.0.1:9479"
			for i := 0; i < len(c.headers); i += 2 {
				if c.headers[i] == "Host" {
					r.Host = c.headers[i+1]
				} else {
					r.Header.Set(c.headers[i], c.headers[i+1])
				}
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%s with %q: %d, want %d", path, c.headers, w.Code, c.want)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s may be read by others", path)
			}
		}
	}
}

func TestARuleSaysWhatIsInForce(t *testing.T) {
	code, header, body := get(t, newFake(busy), "/rule?name=lamps")
	want := `{"keys":[{"key":"ttl","value":"8","means":"hops"},{"key":"qos","value":"1","default":true}],"name":"lamps"}` + "\n"
	if code != http.StatusOK || body != want || header.Get("Content-Type") != "application/json" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %q %v", code, body, header)
	}
	if code, _, body := get(t, newFake(busy), "/rule?name=other"); code != http.StatusNotFound || body != "there is no rule \"other\"\n" {
		t.Errorf("%d %q", code, body)
	}
}
