package session

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// A frame of QoS 0 is the broker's or lost, never both, wherever the writing ends.
func TestQoS0IsCountedFrameByFrameWhenAWriteBreaks(t *testing.T) {
	o, two := &teller{}, &teller{}
	batch := append(batchOf(0, o, "aaaa", "b", strings.Repeat("c", 200)), batchOf(0, two, "d")...)
	size := 0
	for _, p := range batch {
		size += publishSize(&p, new(form))
	}
	ends := []int{publishSize(&batch[0], new(form)), publishSize(&batch[0], new(form)) + publishSize(&batch[1], new(form))}
	for _, tt := range []struct {
		sent        int
		first, then []string
	}{
		{0, []string{"lost 3, 205 bytes: not connected to the broker"}, []string{"lost 1, 1 bytes: not connected to the broker"}},
		{ends[0] - 1, []string{"lost 3, 205 bytes: not connected to the broker"}, []string{"lost 1, 1 bytes: not connected to the broker"}},
		{ends[0], []string{"published 1, 4 bytes", "lost 2, 201 bytes: not connected to the broker"}, []string{"lost 1, 1 bytes: not connected to the broker"}},
		{ends[1] + 3, []string{"published 2, 5 bytes", "lost 1, 200 bytes: not connected to the broker"}, []string{"lost 1, 1 bytes: not connected to the broker"}},
		{size - 1, []string{"published 3, 205 bytes"}, []string{"lost 1, 1 bytes: not connected to the broker"}},
	} {
		s, _ := New(Options{URLs: []string{"mqtt://memory"}, Clean: true, Handle: func([]Message) {}})
		c := testConn(&breaking{left: tt.sent}, &s.inbox, s.outbox)
		s.outbox.attach(c, false)
		s.PublishBatch(batch)
		c.end()
		s.outbox.detach(c, ErrNotConnected)
		if diff := cmp.Diff([][]string{tt.first, tt.then}, [][]string{o.told(), two.told()}); diff != "" {
			t.Errorf("%d of %d bytes written: %s", tt.sent, size, diff)
		}
		if s.Outstanding() != 0 {
			t.Errorf("%d outstanding", s.Outstanding())
		}
	}
}

// breaking is a connection that takes some bytes and then breaks.
type breaking struct {
	memConn
	left int
}

func (c *breaking) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	if n < len(p) {
		return n, net.ErrClosed
	}
	return n, nil
}

func TestABrokerThatDoesNotReadIsStillReadFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.acceptConnect()
		p.send(connack(false, 0))
		c.reached("connected", connected)
		synctest.Wait()
		go c.PublishBatch(batchOf(1, nil, "stands in the write"))
		synctest.Wait()
		for i := range 100 {
			p.send(publish(qos1, "m", uint16(i+1), "x"))
		}
		begin := time.Now()
		if n := len(c.messages(100)); n != 100 || time.Since(begin) > 0 {
			t.Errorf("%d messages after %v", n, time.Since(begin))
		}
		go p.readAll()
		p.published("t=stands in the write 1")
		if got := p.puback(100); got[99] != 100 { // they were only left to the writer
			t.Errorf("acknowledged %v", got)
		}
	})
}

func TestQoS0ThatFindsNoRoomWaitsAndIsLostWithTheConnection(t *testing.T) {
	for _, reads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newPipeBroker(t)
			c := start(t, Options{URLs: []string{b.url()}}, b.use)
			p := b.acceptConnect()
			p.send(connack(false, 0))
			c.reached("connected", connected)
			synctest.Wait()
			o := &teller{}
			done := make(chan struct{}, 64)
			payload := strings.Repeat("x", 100<<10)
			for range 64 {
				go func() { c.PublishBatch(batchOf(0, o, payload)); done <- struct{}{} }()
			}
			synctest.Wait()
			// As much as the bound stands in the write, at most, and as much waits; of messages as
			// large as these there may be one in each, and who writes has not returned.
			if fit := maxPending / len(payload); len(done) == 0 || len(done) > 2*fit {
				t.Errorf("%d of 64 have returned", len(done))
			}
			c.outbox.mu.Lock()
			if n := len(c.outbox.pending); n > maxPending {
				t.Errorf("%d bytes wait", n)
			}
			c.outbox.mu.Unlock()
			want := "published"
			if reads {
				go p.readAll()
			} else {
				want = "lost"
				_ = p.Close()
			}
			for range 64 {
				<-done
			}
			synctest.Wait()
			if o.n != 64 || c.Outstanding() != 0 {
				t.Errorf("told of %d, %d outstanding", o.n, c.Outstanding())
			}
			for _, line := range o.told() {
				if !strings.HasPrefix(line, want) {
					t.Error(line)
				}
			}
		})
	}
}

// One caller alone has to make its own room.
func TestABatchLargerThanTheBoundIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		b.greet(false, 0)
		c.reached("connected", connected)
		synctest.Wait()
		var payloads []string
		for range 30 {
			payloads = append(payloads, strings.Repeat("x", 100<<10))
		}
		o := &teller{}
		c.PublishBatch(batchOf(0, o, append(payloads, strings.Repeat("y", 2*maxPending), "z")...))
		if o.n != 32 {
			t.Errorf("told of %d", o.n)
		}
	})
}

// The reader writes an acknowledgement while somebody publishes.
func TestWhatIsLeftToTheReaderIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.acceptConnect()
		p.send(connack(false, 0))
		c.reached("connected", connected)
		synctest.Wait()
		p.send(publish(qos1, "m", 1, "x"))
		c.messages(1)
		synctest.Wait() // the reader stands in the write of the PUBACK
		c.PublishBatch(batchOf(0, nil, "left"))
		go p.readAll()
		p.puback(1)
		p.published("t=left 0")
	})
}

// The goroutine of the connection may wait for the lock that is handed to it.
func TestWhatIsHandedOverIsFinishedByWhoeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &memConn{}
		c := testConn(conn, &inbox{}, newOutbox(1))
		c.lock()
		c.acks.wakeWriter()
		synctest.Wait()
		c.handover <- partialWrite{b: []byte("0123456789"), sent: 4}
		synctest.Wait()
		if got := conn.written.String(); got != "456789" || len(c.writeLock) > 0 {
			t.Errorf("wrote %q, lock %d", got, len(c.writeLock))
		}
		c.end()
	})
}

// line is a connection over a slow line, which takes a few bytes a second, and
// knows deadlines as a socket does.
type line struct {
	memConn
	rate     int // bytes a second
	deadline time.Time
	largest  int
}

func (l *line) SetWriteDeadline(t time.Time) error { l.deadline = t; return nil }
func (l *line) Write(p []byte) (int, error) {
	l.largest = max(l.largest, len(p))
	for n := range p {
		if n%l.rate == 0 && n > 0 {
			time.Sleep(time.Second)
		}
		if !time.Now().Before(l.deadline) {
			return n, os.ErrDeadlineExceeded
		}
	}
	return len(p), nil
}

func TestASlowLineIsNotTakenForADeadBroker(t *testing.T) {
	const size = 1 << 20
	for _, resumable := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			conn := &line{rate: 8000} // 64 kbit/s
			c := testConn(conn, &inbox{}, newOutbox(1))
			c.resumable = resumable
			begin := time.Now()
			if n, err := c.write(make([]byte, size)); n != size || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
			if d := time.Since(begin); d < 100*time.Second {
				t.Errorf("took %v", d)
			}
			if !resumable && conn.largest > piece {
				t.Errorf("writes of %d bytes, which cannot be continued", conn.largest)
			}
			// A write that cannot be continued, and was cut, is the end.
			conn.rate = 1
			if _, err := c.write(make([]byte, 100)); (err == nil) != resumable {
				t.Errorf("at a byte a second: %v", err)
			}
			c.end()
		})
	}
}

func TestALargeBacklogOverTLSSizedPiecesArrivesWhole(t *testing.T) {
	conn := &memConn{}
	s, _ := New(Options{URLs: []string{"mqtt://memory"}, Clean: true, Handle: func([]Message) {}})
	o := &teller{}
	var want []byte
	for i := range 300 {
		p := batchOf(1, o, strings.Repeat(strconv.Itoa(i), 400))
		s.PublishBatch(p)
		want = appendPublish(want, &p[0], qos1IDs.of(s.outbox.flows[0].ring.head+uint64(i)), new(form))
	}
	c := testConn(conn, &s.inbox, s.outbox)
	s.outbox.attach(c, false)
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	c.end()
	if string(want) != conn.written.String() {
		t.Errorf("%d bytes written, want %d", conn.written.Len(), len(want))
	}
	if n := len(want)/piece + 2; conn.writes > n {
		t.Errorf("%d writes", conn.writes)
	}
}

// A connection that is lost in the middle of a frame: the rest never comes on the next.
func TestNoFrameIsSplitBetweenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.acceptConnect()
		p.send(connack(false, 0))
		c.reached("connected", connected)
		synctest.Wait()
		o := &teller{}
		done := make(chan struct{})
		go func() { c.PublishBatch(batchOf(0, o, "zero")); c.PublishBatch(batchOf(1, o, "one")); close(done) }()
		if _, err := io.ReadFull(p, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		_ = p.Close()
		<-done
		equal(t, "the first", o.told, "lost 1, 4 bytes: not connected to the broker")
		p = b.greet(true, 0)
		equal(t, "the next connection", p.seen, "t=one 1")
	})
}
func TestPublishersKeepTheirOrder(t *testing.T) {
	const publishers, each = 20, 500
	b := newBroker(t)
	c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 50})
	p := b.greet(false, 0)
	c.reached("connected", connected)
	o := &teller{}
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() {
			qos := byte(i % 3)
			for n := 0; n < each; {
				var batch []Publication
				for range 1 + n%7 {
					if n < each {
						batch = append(batch, Publication{Topic: fmt.Append(nil, i), Payload: fmt.Append(nil, n), QoS: qos, Origin: o})
						n++
					}
				}
				c.PublishBatch(batch)
			}
		})
	}
	next := map[string]int{}
	for range publishers * each {
		var m *packets.PublishPacket
		for m == nil {
			switch cp := p.next().(type) {
			case *packets.PublishPacket:
				m = cp
			case *packets.PubrelPacket:
				p.reply(typePubcomp, cp.MessageID)
			default:
				t.Fatalf("got %T", cp)
			}
		}
		if string(m.Payload) != fmt.Sprint(next[m.TopicName]) {
			t.Fatalf("publisher %s: got %s, want %d", m.TopicName, m.Payload, next[m.TopicName])
		}
		next[m.TopicName]++
		if m.Qos > 0 {
			p.reply(typePuback+m.Qos-1, m.MessageID)
		}
	}
	wg.Wait()
	for c.Outstanding() > 0 {
		select {
		case cp := <-p.in:
			p.reply(typePubcomp, cp.(*packets.PubrelPacket).MessageID)
		case <-time.After(time.Millisecond):
		}
	}
}
