package session

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// queueBatch makes n publications of a queue, numbered from a number.
func queueBatch(queue string, qos byte, from, n, size int, origin Origin) (batch []Publication) {
	for i := range n {
		payload := fmt.Sprintf("%s %d ", queue, from+i)
		payload += strings.Repeat("x", max(0, size-len(payload)))
		batch = append(batch, Publication{Topic: []byte("t"), Payload: []byte(payload), QoS: qos, Origin: origin, Queue: queue})
	}
	return batch
}

// takes answers n publications of QoS 1, one after the other as a slow broker does, and
// lists of which queue each was, and which number it had there.
func (p *peer) takes(n int) (queues []string, numbers []int) {
	p.t.Helper()
	for len(queues) < n {
		synctest.Wait()
		m, ok := p.next().(*packets.PublishPacket)
		if !ok {
			p.t.Fatalf("%d publications came, want %d", len(queues), n)
		}
		fields := strings.Fields(string(m.Payload))
		number, err := strconv.Atoi(fields[1])
		if err != nil {
			p.t.Fatal(err)
		}
		queues, numbers = append(queues, fields[0]), append(numbers, number)
		p.reply(typePuback, m.MessageID)
	}
	return queues, numbers
}

// A broker that takes less than one rule has for it does not have the others wait for all of
// that: they have their turn after what stands ahead of it at most.
func TestWhoHasLittleDoesNotWaitForWhoHasMuch(t *testing.T) {
	for name, tt := range map[string]struct{ size, much, most int }{
		"many messages":  {20, 20_000, 10 + ringAhead + turnBytes/20},
		"large messages": {100_000, 100, 10 + 2 + bytesAhead/100_000 + turnBytes/100_000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 10}, b.use)
				p := b.greet(false, 0)
				o := &teller{}
				c.PublishBatch(queueBatch("much", 1, 0, tt.much, tt.size, o))
				c.PublishBatch(queueBatch("little", 1, 0, 5, 20, o))
				queues, numbers := p.takes(tt.much + 5)
				next := map[string]int{}
				for i, q := range queues {
					if numbers[i] != next[q] {
						t.Fatalf("message %d of %s came in place of %d", numbers[i], q, next[q])
					}
					next[q]++
				}
				if at := slices.Index(queues, "little"); at > tt.most {
					t.Errorf("%d came before, want %d at most", at, tt.most)
				}
				c.stop()
				if o.n != tt.much+5 {
					t.Errorf("told of %d, want %d", o.n, tt.much+5)
				}
			})
		})
	}
}

// Those that have much take turns, each with as many bytes as the others.
func TestTurnsAreEqualInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 10}, b.use)
		p := b.greet(false, 0)
		c.PublishBatch(queueBatch("first", 1, 0, 2*ringAhead, 20, nil)) // stands ahead of all
		sizes := map[string]int{"small": 50, "middle": 500, "large": 20_000}
		for queue, size := range sizes {
			c.PublishBatch(queueBatch(queue, 1, 0, 2_000_000/size, size, nil))
		}
		p.takes(2 * ringAhead)
		queues, _ := p.takes(20_000)
		bytes := map[string]int{}
		for _, q := range queues {
			bytes[q] += publishSize(&queueBatch(q, 1, 0, 1, sizes[q], nil)[0], new(form))
		}
		delete(bytes, "first")
		for queue, n := range bytes {
			if want := bytes["small"]; n < want*95/100-20_000 || n > want*105/100+20_000 {
				t.Errorf("%d bytes of %s, and %d of small", n, queue, want)
			}
		}
		if len(bytes) != len(sizes) {
			t.Errorf("%v", bytes)
		}
	})
}

// Whatever comes, breaks and is answered in between: each message is told of once, each
// queue keeps its order, and nothing is left.
func TestTurnsLoseNothingOverConnections(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			b := newPipeBroker(t)
			c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 1 + random.IntN(50)}, b.use)
			origins := map[string]*orderTeller{}
			given := map[string]int{}
			give := func() {
				queue, qos := fmt.Sprint("q", random.IntN(5)), byte(1+random.IntN(2))
				key := fmt.Sprint(queue, qos)
				if origins[key] == nil {
					origins[key] = &orderTeller{}
				}
				n := 1 + random.IntN(2000)
				c.PublishBatch(queueBatch(queue, qos, given[key], n, random.IntN(300), origins[key]))
				given[key] += n
			}
			came := map[string]int{} // first arrivals
			for range 6 {
				p := b.greet(false, 0)
				for range 200 + random.IntN(400) {
					if random.IntN(30) == 0 {
						give()
					}
					synctest.Wait()
					for len(p.in) > 0 {
						switch m := p.next().(type) {
						case *packets.PublishPacket:
							fields := strings.Fields(string(m.Payload))
							key, number := fmt.Sprint(fields[0], m.Qos), 0
							_, _ = fmt.Sscan(fields[1], &number)
							if number > came[key] {
								t.Fatalf("%s: %d came in place of %d", key, number, came[key])
							}
							came[key] = max(came[key], number+1)
							p.reply(map[byte]byte{1: typePuback, 2: typePubrec}[m.Qos], m.MessageID)
						case *packets.PubrelPacket:
							p.reply(typePubcomp, m.MessageID)
						}
					}
				}
				p.Close()
			}
			c.stop()
			for key, n := range given {
				if o := origins[key]; o.n != n || o.published > came[key] {
					t.Errorf("%s: told of %d, want %d; %d published, and %d came", key, o.n, n, o.published, came[key])
				}
			}
			if n := c.Outstanding(); n != 0 {
				t.Errorf("%d outstanding", n)
			}
			for i := range c.outbox.flows {
				if f := &c.outbox.flows[i]; f.unwritten != 0 || f.turns.len != 0 || len(f.turns.order)+len(f.turns.queues) != 0 {
					t.Errorf("left: %d bytes, %+v", f.unwritten, f.turns)
				}
			}
		})
	}
}

// orderTeller is an Origin that counts.
type orderTeller struct{ n, published int }

func (o *orderTeller) Published(n, _ int)     { o.n += n; o.published += n }
func (o *orderTeller) Lost(n, _ int, _ error) { o.n += n }

// Of what waits for its turn copies are made as of what is in the ring, in the order of each
// queue: when it is late, and when the connection is gone.
func TestCopiesOfWhatWaitsForItsTurnAreInOrder(t *testing.T) {
	for name, end := range map[string]func(p *peer){
		"late": func(*peer) {},
		"lost": func(p *peer) { p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 10}, b.use)
				p := b.greet(false, 0)
				keepers := map[string]*keeper{"a": {}, "b": {}}
				const n = 3 * ringAhead
				for i := range n / 64 {
					for _, queue := range []string{"a", "b"} {
						c.PublishBatch(queueBatch(queue, 1, 64*i, 64, 30, keepers[queue]))
					}
				}
				p.takes(20)
				end(p)
				time.Sleep(2 * time.Second)
				for queue, k := range keepers {
					next := -1
					for _, line := range k.rescued() {
						number := 0
						if _, err := fmt.Sscanf(strings.TrimPrefix(line, "t="+queue+" "), "%d", &number); err != nil {
							t.Fatalf("%q: %v", line, err)
						}
						if next >= 0 && number != next {
							t.Fatalf("%s: a copy of %d comes in place of %d", queue, number, next)
						}
						next = number + 1
					}
					if next != n {
						t.Errorf("%s: the last copy is of %d, want %d", queue, next-1, n-1)
					}
				}
				c.stop()
			})
		})
	}
}

// A rule whose messages of QoS 0 fill the space while the broker reads nothing leaves room to
// the others, so that what these receive is not left in their sockets.
func TestWhoFillsTheSpaceOfQoS0LeavesRoomToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0) // whose end nobody reads
		for range 8 {
			go c.PublishBatch(queueBatch("much", 0, 0, 10_000, 100, nil))
		}
		synctest.Wait() // they all wait for room
		done := false
		go func() {
			c.PublishBatch(queueBatch("little", 0, 0, 20, 100, nil))
			done = true
		}()
		synctest.Wait()
		if !done {
			t.Error("it waits for room as well")
		}
		go c.stop()
		for p.next() != nil {
		}
	})
}

// What is given up for its topic while it waits for its turn is told of in its turn, also
// where nothing else is left.
func TestWhatIsGivenUpWhileItWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 10}, b.use)
		p := b.greet(false, 0)
		c.outbox.mu.Lock()
		for range barAfter {
			c.outbox.refused.givenUp("barred")
		}
		c.outbox.mu.Unlock()
		o := &teller{}
		const n = 2 * ringAhead
		c.PublishBatch(queueBatch("a", 1, 0, n, 20, nil))
		batch := queueBatch("b", 1, 0, n, 20, o)
		for i := range batch {
			batch[i].Topic = []byte("barred")
		}
		c.PublishBatch(batch)
		queues, _ := p.takes(n)
		synctest.Wait()
		if o.n != n || slices.Contains(queues, "b") {
			t.Errorf("told of %d, want %d; %d in flight", o.n, n, len(p.in))
		}
		for _, line := range o.told() {
			if !strings.HasSuffix(line, ErrTopicRefused.Error()) {
				t.Error(line)
			}
		}
	})
}

// What waits of thousands of queues takes the memory that the messages need, also of queues that
// were longer.
func TestWhatWaitsForItsTurnTakesTheMemoryThatItNeeds(t *testing.T) {
	const queues, most = 1000, 260
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, size := heap(), uint64(unsafe.Sizeof(queuedMessage{}))
	var all turns
	check := func(each uint64) {
		t.Helper()
		if took, want := heap()-before, queues*(each+32)*size*11/10; took > want {
			t.Errorf("%d queues of %d messages take %d bytes, want %d at most", queues, each, took, want)
		}
	}
	for range most {
		for key := range queues {
			all.push(all.of(key), &queuedMessage{frame: []byte{}})
		}
	}
	check(most)
	for _, q := range all.order {
		for q.end-q.first > 10 {
			all.popped(q)
		}
	}
	check(10)
	runtime.KeepAlive(&all)
}

// What waits of one queue keeps nothing of the others' that has gone meanwhile.
func TestWhatWaitsOfOneQueueKeepsNoMemoryOfOthers(t *testing.T) {
	const rounds, others, size = 1000, 100, 1000
	f, as := newFlow(qos1IDs, 1000), &form{}
	enter := func(queue int) {
		f.enter(&Publication{Topic: []byte("t"), Payload: make([]byte, size), QoS: 1, Queue: queue}, as)
	}
	for !f.ahead() {
		enter(0)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range rounds { // of one two come, and the broker takes one of each
		for queue := range others {
			enter(queue)
		}
		enter(0)
		for range others {
			f.pop()
			f.admit()
		}
	}
	if took, want := heap()-before, uint64(2*rounds*size); took > want { // twice: with what is kept for the next ones
		t.Errorf("%d messages of %d bytes wait, in %d bytes of memory, want %d at most", f.turns.len, size, took, want)
	}
	runtime.KeepAlive(&f)
}

// flowBehind is a flow with as much ahead of the broker as there may be: what is entered waits.
func flowBehind() (*flow, *form) {
	f, as := newFlow(qos1IDs, 1000), &form{}
	for !f.ahead() {
		f.enter(&Publication{Topic: []byte("t"), Payload: make([]byte, 1000), QoS: 1, Queue: "ahead"}, as)
	}
	return &f, as
}

// A message that waits for its turn keeps its frame, in whatever form, while others of its queue and of
// others come and go around it, whose memory is used again.
func TestWhatWaitsForItsTurnKeepsItsFrame(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	sizes := []int{8, 10, 200, 5000, maxFrame, slabSize - 20, slabSize}
	// payload begins with whose it is and which one of those, and continues with a byte of its own.
	payload := func(queue, number int) []byte {
		of := rand.New(rand.NewPCG(uint64(queue), uint64(number)))
		b := bytes.Repeat([]byte{byte(number)}, sizes[min(of.IntN(len(sizes)), of.IntN(len(sizes)))])
		binary.BigEndian.PutUint32(b, uint32(queue))
		binary.BigEndian.PutUint32(b[4:], uint32(number))
		return b
	}
	const queues = 4
	f, as := newFlow(qos1IDs, 1000), &form{}
	var entered, gone [queues]int
	check := func(m *queuedMessage) {
		t.Helper()
		got := m.publication().Payload
		queue, number := int(binary.BigEndian.Uint32(got)), int(binary.BigEndian.Uint32(got[4:]))
		if queue >= queues || number != gone[queue] || !bytes.Equal(got, payload(queue, number)) {
			t.Fatalf("a payload of %d bytes is there, %x of queue %d, want number %d whole", len(got), got[:min(16, len(got))], queue, gone[min(queue, queues-1)])
		}
		gone[queue]++
	}
	for step := range 20_000 {
		switch {
		case random.IntN(1000) == 0:
			as = &form{protocol: []Protocol{Protocol311, Protocol5}[random.IntN(2)]}
			f.reform(as)
		case f.turns.len < 10 || f.turns.len < 100+500*(step/5000%2) && random.IntN(3) > 0:
			queue := min(random.IntN(queues), random.IntN(queues))
			f.enter(&Publication{Topic: []byte("t"), Payload: payload(queue, entered[queue]), QoS: 1, Queue: queue}, as)
			entered[queue]++
		default:
			for range min(1+random.IntN(10), int(f.tail-f.head)) {
				check(f.at(f.head))
				f.pop()
				f.admit()
			}
		}
		if step%100 > 0 {
			continue
		}
		was := gone
		for n := f.head; n < f.tail; n++ {
			check(f.at(n))
		}
		for _, q := range f.turns.order {
			bytes := 0
			for n := q.first; n < q.end; n++ {
				check(q.at(n))
				bytes += len(q.at(n).frame)
			}
			if q.bytes != bytes {
				t.Errorf("%d bytes of queue %v are counted, want %d", q.bytes, q.key, bytes)
			}
		}
		if gone != entered {
			t.Fatalf("%v are there or gone, of %v", gone, entered)
		}
		gone = was
	}
}

// The memory that a queue is filling is given to no other one, also while nothing is left in it; and is
// given back when the queue ends.
func TestAQueueKeepsTheMemoryThatItFills(t *testing.T) {
	f, as := flowBehind()
	enter := func(size int) {
		f.enter(&Publication{Topic: []byte("t"), Payload: make([]byte, size), QoS: 1, Queue: "q"}, as)
	}
	for range slabSize / 100 * 5 {
		enter(100)
	}
	for range 2 * bytesAhead / maxFrame {
		enter(2 * maxFrame) // each in memory of its own
	}
	s := f.turns.queues["q"].slab
	for s.inUse > 0 {
		f.pop()
		f.admit()
	}
	if q := f.turns.queues["q"]; q == nil || q.slab != s || cap(s.b) != slabSize {
		t.Fatal("the queue has ended, or fills another slab")
	}
	if slices.Contains(f.free, s) {
		t.Error("what the queue fills is free")
	}
	for f.turns.len > 0 {
		f.pop()
		f.admit()
	}
	if !slices.Contains(f.free, s) {
		t.Error("what the queue has filled is not free, though the queue has ended")
	}
}

// A broker that is a little behind costs no memory for each message, as one that keeps up: neither while
// some wait all the time, nor while they come in bursts.
func TestWhatWaitsForItsTurnMakesNoGarbage(t *testing.T) {
	f, as := flowBehind()
	p := &Publication{Topic: []byte("t"), Payload: make([]byte, 128), QoS: 1, Queue: "q"}
	for what, tt := range map[string]struct {
		most  uint64 // bytes
		round func()
	}{
		"some wait": {2 << 20, func() { // 20,000
			for range 2000 {
				f.enter(p, as)
			}
			for range 20_000 {
				f.enter(p, as)
				f.pop()
				f.admit()
			}
		}},
		"bursts": {12 << 20, func() { // 50,000
			for range 10 {
				for range 5000 {
					f.enter(p, as)
				}
				for f.turns.len > 0 {
					f.pop()
					f.admit()
				}
			}
		}},
	} {
		for !f.ahead() {
			f.enter(p, as)
		}
		tt.round()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tt.round()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > tt.most {
			t.Errorf("%s: a round takes %d bytes, want %d at most", what, n, tt.most)
		}
	}
}

// Queues that were long keep little of that for the few that are left of them.
func TestWhatIsLeftOfALongQueueKeepsLittleMemory(t *testing.T) {
	const queues, most, left, size = 200, 1000, 5, 100
	f, as := flowBehind()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range most {
		for queue := range queues {
			f.enter(&Publication{Topic: []byte("t"), Payload: make([]byte, size), QoS: 1, Queue: queue}, as)
		}
	}
	if took, want := heap()-before, uint64(queues*most*(size+int(unsafe.Sizeof(queuedMessage{})))*5/4); took > want {
		t.Errorf("%d messages take %d bytes, want %d at most", f.turns.len, took, want)
	}
	for f.turns.len > queues*left {
		f.pop()
		f.admit()
	}
	for round := range 2 * most * queues { // as many more come and go
		f.enter(&Publication{Topic: []byte("t"), Payload: make([]byte, size), QoS: 1, Queue: round % queues}, as)
		f.pop()
		f.admit()
	}
	if took, want := heap()-before, uint64(queues*most*size/2); took > want {
		t.Errorf("of %d messages %d are left, which take %d bytes, want %d at most", queues*most, f.turns.len, took, want)
	}
	runtime.KeepAlive(f)
}
