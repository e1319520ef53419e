package session

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// The way of a message from the broker, in the order of the functions below.
// All of it runs on the goroutine on which paho reads its connection:
//
//	1. Read    paho asks for bytes: steps 2 to 5, until there is a frame for it
//	2. parse   takes the frames off the buffer: PUBLISH to the batch, PUBACK, PUBREC
//	           and PUBCOMP to the answers, PUBREL to its own answer, others to paho
//	3. deliver hands the batch to Handle, and the answers to the outbox (outbox.go),
//	4.         then acknowledges what Handle did not hold, in one write (ack.go)
//	5. fill    waits for more bytes
//
// So a message meets no queue, no other goroutine and no allocation. What is left
// for paho is CONNACK, SUBACK, UNSUBACK and PINGRESP, each in its place in the
// stream. paho could not do the rest: it hands QoS 2 on by another goroutine, past
// the order of the stream and twice when the broker repeats itself, and a client of
// one connection cannot publish again, with the same identifier, on the next.

// readBuffer is how much is read at once, and maxBatch how many messages of that
// are handed on together. The more there are, the longer the runs of datagrams to
// one group that leave in one call: with a hundred groups in turn this doubles the
// rate, against a quarter of the size.
//
// Until the broker has accepted us there are no messages, and firstBuffer is
// enough: what a broker turns away again and again must not take a megabyte each
// time.
const (
	readBuffer  = 2 * MaxMessage
	firstBuffer = 512
	maxBatch    = 4096
)

// inbox is where a lane puts what it reads. It outlives the lane, for the
// session goes on over the next connection.
type inbox struct {
	received atomic.Uint64 // messages handed on
	done     packetIDs     // QoS 2 messages that are acknowledged, but for their PUBREL

	carried map[uint16]Ack // QoS 2 messages of the last connection that are not acknowledged; of Run's goroutine

	mu     sync.Mutex // held while a batch is handled
	handle func([]Message)
	shut   bool // no more messages are handed on, nor acknowledged
}

// close ends the handing on of messages, and waits for the batch in hand.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.shut = true
}

// A lane is one network connection as paho sees it, with the messages taken out.
type lane struct {
	conn net.Conn
	in   *inbox
	out  *outbox

	// Of the reading goroutine.
	buf     []byte
	r, w    int       // buf[r:w] is read, and not yet parsed
	pass    []byte    // a frame on its way to paho; lies in buf
	batch   []Message // lies in buf as well
	answers []answer  // to what was published
	big     Message   // an oversized message whose payload is being skipped
	passing int       // bytes of it still to come; 0: there is none
	greeted bool      // CONNACK was seen

	acks *acks

	pinged    atomic.Bool // paho waits for an answer to its PINGREQ
	keepAlive uint16      // in seconds, for CONNECT; 0: what paho says

	subMu  sync.Mutex
	subs   map[uint16]asked // by packet identifier of the SUBSCRIBE or UNSUBSCRIBE
	subBuf []byte

	heard [2]chan struct{} // the broker has the message with onlineID, offlineID

	company   company
	writing   chan struct{} // a lock, held for whole frames; see write.go
	todo      atomic.Bool   // something was left to whoever holds that lock
	leaving   atomic.Bool   // DISCONNECT was written
	resumable bool          // a write that timed out can be continued

	// Under the lock for writing.
	buffer []byte
	runs   []run
	unsent unsent

	handed  chan part             // to serve, with the lock
	raw     syscall.RawConn       // nil: the connection cannot write without waiting
	sendNow func(fd uintptr) bool // writes now, once, and says that it is done
	now     []byte
	nowSent int
	nowErr  error

	once  sync.Once
	done  chan struct{} // closed when the lane is over
	cause error         // why it is; valid when done is closed
	idle  chan struct{} // closed when its own goroutine has ended
}

func newLane(conn net.Conn, in *inbox, out *outbox) *lane {
	l := &lane{
		conn:    conn,
		in:      in,
		out:     out,
		unsent:  newUnsent(conn),
		buf:     make([]byte, firstBuffer),
		acks:    newAcks(&in.done),
		subs:    make(map[uint16]asked),
		heard:   [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)},
		writing: make(chan struct{}, 1),
		handed:  make(chan part, 1),
		done:    make(chan struct{}),
		idle:    make(chan struct{}),
	}
	if tcp, ok := conn.(*net.TCPConn); ok { // neither TLS nor WebSocket can (crypto/tls, Conn.SetDeadline)
		l.resumable = true
		l.useRaw(tcp)
	}
	l.acks.carried = in.carried
	go l.serve()
	return l
}

// Read gives paho the next bytes that are not messages, and carries the
// messages before them on the way.
func (l *lane) Read(p []byte) (int, error) {
	for len(l.pass) == 0 {
		more, err := l.parse()
		if e := l.deliver(); err == nil {
			err = e
		}
		if err == nil && more {
			err = l.fill()
		}
		if err != nil {
			return 0, l.fail(err)
		}
	}
	n := copy(p, l.pass)
	l.pass = l.pass[n:]
	return n, nil
}

// parse takes frames off the buffer until the batch is full, or it has met a
// frame that is paho's, or more bytes are needed.
func (l *lane) parse() (more bool, err error) {
	if !l.skip() {
		return true, nil
	}
	for len(l.batch) < maxBatch && len(l.answers) < maxBatch {
		b := l.buf[l.r:l.w]
		head, rest, err := fixedHeader(b)
		if err != nil || head == 0 {
			return true, err
		}
		if kind := b[0] >> 4; kind != typePublish || !l.greeted {
			ours := l.greeted && (kind == typePuback || kind == typePubrec || kind == typePubcomp)
			if !ours && len(l.batch)+len(l.answers) > 0 {
				return false, nil // what came before goes before
			}
			if more, err := l.parseControl(b, head, rest); more || err != nil || len(l.pass) > 0 {
				return more, err
			}
			continue
		}
		if err := publishFlags(b); err != nil {
			return false, err
		}
		end := head + rest
		if end > MaxMessage {
			if whole, err := l.parseOversize(b, head, rest); !whole {
				return true, err
			}
			continue
		}
		if len(b) < end {
			return true, nil
		}
		topic, id, payload, err := publishHead(b[:end], head, rest)
		if err != nil {
			return false, err
		}
		l.batch = append(l.batch, message(b[0], topic, b[payload:end:end], id))
		l.r += end
	}
	return false, nil
}

// parseControl reads a frame that is not a message, and makes it the next that
// paho reads unless it is ours to deal with.
func (l *lane) parseControl(b []byte, head, rest int) (more bool, err error) {
	kind := b[0] >> 4
	if (kind == typeConnack) == l.greeted {
		return false, violation("MQTT-3.2.0-1", "CONNACK is not the first packet, or not the only one", b)
	}
	if err := controlHead(b[0], rest, b); err != nil {
		return false, err
	}
	// The length of a SUBACK is known from its SUBSCRIBE; any other would make
	// paho panic, or us wait.
	if kind == typeSuback {
		if len(b) < head+2 {
			return true, nil
		}
		asked, ok := l.asked(binary.BigEndian.Uint16(b[head:]))
		if !ok {
			return false, violation("MQTT-3.8.4-2", "SUBACK for a SUBSCRIBE that was not sent", b)
		}
		if rest != 2+asked.filters {
			return false, violation("MQTT-3.8.4-5", "SUBACK with more or fewer return codes than filters were asked for", b)
		}
	}
	end := head + rest
	if len(b) < end {
		return true, nil
	}
	if err := controlBody(b[0], b[head:end], b); err != nil {
		return false, err
	}
	l.r += end
	toPaho, err := l.note(kind, b[head:end])
	if toPaho {
		l.pass = b[:end]
	}
	return false, err
}

// note does what is to be done about a frame that is not a message.
func (l *lane) note(kind byte, body []byte) (toPaho bool, err error) {
	switch kind {
	case typeConnack:
		l.greeted = true
		if body[0] == 0 {
			l.acks.forget() // no session: the broker remembers nothing of us [MQTT-3.2.2-3]
		}
	case typeSuback:
		l.answered(body)
	case typeUnsuback:
		if a, ok := l.asked(binary.BigEndian.Uint16(body)); !ok || a.filters > 0 {
			return false, nil // it answers nothing; paho would take it for the answer to something else
		}
		l.answered(body)
	case typePubrel:
		return false, l.acks.complete(binary.BigEndian.Uint16(body))
	case typePuback, typePubrec, typePubcomp:
		l.answers = append(l.answers, answer{kind, binary.BigEndian.Uint16(body)})
		return false, nil
	}
	return true, nil
}

// parseOversize begins to skip a PUBLISH that is larger than MaxMessage. The
// message is handed on when its last byte has passed, for until then it has not
// arrived; whole says that this is so already.
func (l *lane) parseOversize(b []byte, head, rest int) (whole bool, err error) {
	topic, id, payload, err := publishHead(b, head, rest)
	if err != nil || payload == 0 {
		return false, err
	}
	l.big = message(b[0], bytes.Clone(topic), nil, id)
	l.big.Size, l.big.Oversize = head+rest-payload, true
	l.passing = head + rest
	return l.skip(), nil
}

// skip lets an oversized payload pass by. It is false while more is to come.
func (l *lane) skip() bool {
	if l.passing == 0 {
		return true
	}
	n := min(l.passing, l.w-l.r)
	l.r += n
	l.passing -= n
	if l.passing > 0 {
		return false
	}
	l.batch = append(l.batch, l.big)
	return true
}

// deliver hands on what was parsed and acknowledges what was not held.
func (l *lane) deliver() error {
	l.settle()
	if err := l.hand(); err != nil {
		return err
	}
	if !l.acks.due() {
		return nil
	}
	return l.answer()
}

// settle hands the answers on. What they make room for is written by the lane's
// own goroutine: should the broker not read it, the reader must go on.
func (l *lane) settle() {
	if len(l.answers) == 0 {
		return
	}
	for _, a := range l.answers {
		if a.kind == typePuback && (a.id == onlineID || a.id == offlineID) {
			select {
			case l.heard[a.id-onlineID] <- struct{}{}:
			default:
			}
		}
	}
	if l.out.acknowledge(l.answers, l.acks.release) {
		l.acks.ring()
	}
	l.answers = l.answers[:0]
}

// hand hands the batch on.
func (l *lane) hand() (err error) {
	batch := l.batch
	l.batch = l.batch[:0]
	if len(batch) == 0 {
		return nil
	}
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	if l.in.shut {
		return nil
	}
	if batch, err = l.acks.admit(batch); err != nil {
		return err
	}
	if len(batch) > 0 {
		l.in.received.Add(uint64(len(batch)))
		l.in.handle(batch)
	}
	l.acks.settle(batch)
	return nil
}

// pingResponse is a PINGRESP frame.
var pingResponse = []byte{typePingresp << 4, 0}

// fill reads what there is, and waits for it if need be.
func (l *lane) fill() error {
	// What is left is less than a frame. It moves at most once, for afterwards
	// it lies at the start.
	buf := l.buf
	if l.greeted && len(buf) < readBuffer {
		buf = make([]byte, readBuffer)
		l.batch, l.answers = make([]Message, 0, maxBatch), make([]answer, 0, maxBatch)
	}
	if l.r > 0 || len(buf) > len(l.buf) {
		l.w = copy(buf, l.buf[l.r:l.w])
		l.buf, l.r = buf, 0
	}
	n, err := l.conn.Read(l.buf[l.w:])
	l.w += n
	// Every byte shows that the broker is alive. paho, which does not see the
	// messages, would wait for the PINGRESP behind them and give up a slow link
	// that is busy with them.
	if n > 0 && l.pinged.Load() {
		l.pinged.Store(false)
		l.pass = pingResponse
	}
	if n > 0 {
		return nil // an error comes again
	}
	return err
}
