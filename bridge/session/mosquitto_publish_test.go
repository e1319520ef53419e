package session

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// listen starts a second client that writes down the numbers it gets, by topic.
// What the broker repeats to it, because its own acknowledgement was lost, is left
// out: that comes with DUP, and what was published twice does not.
func listen(t *testing.T, port string, qos byte) (c *client, numbers func() map[string][]int) {
	c = start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "listener", Subscriptions: []Subscription{{Filter: "n/#", QoS: qos}}})
	c.reached("subscribed", allActive)
	return c, func() map[string][]int {
		c.mu.Lock()
		defer c.mu.Unlock()
		got := map[string][]int{}
		for _, m := range c.got {
			n, err := strconv.Atoi(string(m.Payload))
			if err != nil {
				t.Fatal(err)
			}
			topic := string(m.Topic)
			if !m.Dup || !slices.Contains(got[topic], n) {
				got[topic] = append(got[topic], n)
			}
		}
		return got
	}
}

// numbered publishes n numbers in batches, and lets no more than so many wait.
func numbered(c *client, qos byte, n, most int, origin Origin) {
	topic := fmt.Append(nil, "n/", qos)
	for i := 0; i < n; {
		var batch []Publication
		for range min(50, n-i) {
			batch = append(batch, Publication{Topic: topic, Payload: strconv.AppendInt(nil, int64(i), 10), QoS: qos, Origin: origin})
			i++
		}
		c.PublishBatch(batch)
		for c.Outstanding() > most {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// mosquitto takes 10 aliases unless its configuration says otherwise, and finds the topic of each
// message, also after connections that end.
func TestMosquittoFindsTheTopicsOfAliases(t *testing.T) {
	port := mosquitto(t, open+deep)
	listener, numbers := listen(t, port, 1)
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "gateway", Protocol: Protocol5, TopicAliases: true, MaxInFlight: 100},
		func(s *Session) { s.backoff.next = time.Millisecond })
	c.reached("connected", connected)
	if n := c.State().Limits.TopicAliasMaximum; n != 10 {
		t.Errorf("%d aliases", n)
	}
	const topics, n = 15, 200
	for i := range n {
		var batch []Publication
		for topic := range topics {
			batch = append(batch, Publication{Topic: fmt.Append(nil, "n/topic/", topic), Payload: strconv.AppendInt(nil, int64(i), 10), QoS: 1})
		}
		c.PublishBatch(batch)
		if i%70 == 69 {
			c.Repeat() // a new connection
		}
	}
	for c.Outstanding() > 0 {
		time.Sleep(time.Millisecond)
	}
	last, lastTopic := strconv.Itoa(n-1), fmt.Sprint("n/topic/", topics-1)
	listener.until("the last of all, after some that came twice", func() bool {
		return slices.ContainsFunc(listener.got, func(m Message) bool { return string(m.Payload) == last && string(m.Topic) == lastTopic })
	})
	got := numbers()
	for topic := range topics {
		seen := 0
		for _, i := range got[fmt.Sprint("n/topic/", topic)] {
			if i == seen {
				seen++
			} else if i > seen {
				t.Fatalf("topic %d: %d in place of %d", topic, i, seen)
			}
		}
		if seen != n {
			t.Errorf("topic %d: %d of %d", topic, seen, n)
		}
	}
	if s := c.State(); s.Connects < 2 || len(got) != topics {
		t.Errorf("%d topics, %+v", len(got), s)
	}
}

const deep = "max_queued_messages 0\nmax_inflight_messages 0\n"

func TestMosquittoPassesOnTenThousandPublications(t *testing.T) {
	const n = 10_000
	for qos := range byte(3) {
		port := mosquitto(t, open+deep)
		listener, numbers := listen(t, port, qos)
		o := &teller{}
		c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "gateway", MaxInFlight: 100})
		c.reached("connected", connected)
		numbered(c, qos, n, 2000, o)
		listener.messages(n)
		for c.Outstanding() > 0 {
			time.Sleep(time.Millisecond)
		}
		topic := fmt.Sprint("n/", qos)
		for i, got := range numbers()[topic] {
			if got != i {
				t.Fatalf("QoS %d: message %d is number %d", qos, i, got)
			}
		}
		if s := c.State(); s.Published != n || s.Connects != 1 {
			t.Errorf("QoS %d: state %+v", qos, s)
		}
		c.stop()
		listener.stop()
	}
}

// The broker is ended in mid-stream, keeps its state on disk, and comes back.
func TestMosquittoMayBeRestartedWhileWePublish(t *testing.T) {
	t.Parallel() // it waits most of the time
	const n = 4000
	b := newMosquitto(t, open+deep+"persistence true\n")
	quick := func(s *Session) { s.backoff.next = time.Millisecond }
	listener, numbers := listen(t, b.port, 2)
	o := &teller{}
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + b.port}, ClientID: "gateway", MaxInFlight: 200}, quick)
	c.reached("connected", connected)
	done := make(chan struct{})
	go func() {
		defer close(done)
		numbered(c, 1, n, 500, o)
		numbered(c, 2, n, 500, o)
	}()
	for _, at := range []int{n / 2, n + n/2} { // in QoS 1, and in QoS 2
		listener.messages(at)
		b.stop(syscall.SIGTERM)
		b.start()
	}
	<-done
	c.until("all told", func() bool { c.tell(); time.Sleep(time.Millisecond); return o.count() == 2*n })
	listener.until("the last number", func() bool {
		return len(listener.got) > 0 && string(listener.got[len(listener.got)-1].Payload) == fmt.Sprint(n-1) && string(listener.got[len(listener.got)-1].Topic) == "n/2"
	})
	got := numbers()
	if s := c.State(); s.Connects < 2 || s.Published != 2*n {
		t.Errorf("state %+v", s)
	}
	for i, v := range got["n/2"] {
		if v != i {
			t.Fatalf("QoS 2: message %d is number %d", i, v)
		}
	}
	next := 0
	for _, v := range got["n/1"] {
		if v > next {
			t.Fatalf("QoS 1: number %d before %d", v, next)
		}
		next = max(next, v+1)
	}
	if next != n || len(got["n/2"]) != n {
		t.Errorf("QoS 1: up to %d, QoS 2: %d of %d", next, len(got["n/2"]), n)
	}
}
