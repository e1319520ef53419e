package session

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The way of a message from the broker, in the order of the functions below. All of it
// runs on the goroutine that reads the connection:
//
//	1. readLoop does the steps 2 to 5 until the connection is lost
//	2. parse    takes the frames off the buffer: PUBLISH to the batch, PUBACK, PUBREC
//	            and PUBCOMP to pubAcks; SUBACK, UNSUBACK and PUBREL are dealt with
//	            in their place in the stream, when what came before is delivered
//	3. deliver  hands the batch to Handle, and pubAcks to the outbox (outbox.go),
//	4.          then acknowledges what Handle did not hold, in one write (ack.go)
//	5. fill     waits for more bytes
//
// So a message meets no queue, no other goroutine and no allocation.

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

// inbox is where a connection puts what it reads. It outlives the connection: the
// session goes on over the next one.
type inbox struct {
	received atomic.Uint64 // messages handed on
	done     packetIDs     // QoS 2 messages that are acknowledged, but for their PUBREL

	carried map[uint16]Ack // QoS 2 messages of the last connection that are not acknowledged; of Run's goroutine

	mu      sync.Mutex // held while a batch is handled
	handle  func([]Message)
	drained bool // no more messages are handed on, nor acknowledged
}

// close ends the handing on of messages, and waits for the batch in hand.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.drained = true
}

// An mqttConn is one network connection: what is read from it, and what is written to it.
type mqttConn struct {
	maxPacket int // bytes, as the configuration says; 0: it does not
	conn      net.Conn
	inbox     *inbox
	outbox    *outbox
	acks      *acks
	codec     codec
	terms     terms // that the broker has accepted us on
	form      form  // of them

	persistent bool // the broker repeats what it gets no acknowledgement for
	resumable  bool // a write that timed out can be continued

	// Of the goroutine that reads; before that begins, of connectTo.
	buf       []byte
	r, w      int       // buf[r:w] is read, and not yet parsed
	batch     []Message // lies in buf
	pubAcks   []pubAck  // to what was published
	oversized Message   // an oversized message whose payload is being skipped
	skipping  int       // bytes of it still to come; 0: there is none
	unfinished
	pongs   uint64            // PINGRESPs
	reasons map[uint16]string // what the broker says beside the code of one of pubAcks
	stray   int               // answers that fit nothing, less those that do, since the last sign of life that was asked for

	// Of the goroutine that reads; see overtaken.go.
	peer       peerState
	staleAfter time.Duration
	lastRead   time.Time
	late       bool // nothing was read for staleAfter before
	moreBehind bool // and there may be more behind it than the kernel takes
	stale      bool // what is read is no longer ours

	// What the broker answers, from the goroutine that reads to who waits for it.
	requests    requests
	statusAcked [2]chan ReasonCode // the broker has the message with onlineID, offlineID
	begun       time.Time
	readSince   atomic.Int64  // since when the reader waits for a byte, in nanoseconds after begun; 0: it is busy
	pingPending atomic.Bool   // a sign of life is waited for
	alive       chan struct{} // it came

	coalescer writeCoalescer
	todo      atomic.Bool   // something was left to the holder of writeLock
	writeLock chan struct{} // a lock, held for whole frames; see write.go

	// Under writeLock.
	disconnecting bool   // DISCONNECT was written
	pings         uint64 // PINGREQs that were written
	buffer        []byte
	runs          []run
	wroteQoS0     time.Time // when messages of QoS 0 were written last
	unsent        unsent
	raw           rawWriter // where the connection can write without waiting

	handover chan partialWrite // to writeLoop, with the lock

	running  sync.WaitGroup // its goroutines
	failOnce sync.Once
	leftFor  atomic.Pointer[error] // why we leave it in good order; nil: we do not
	done     chan struct{}         // closed when the connection is over
	cause    error                 // why it is; valid when done is closed
}

func newMQTTConn(conn net.Conn, in *inbox, out *outbox, codec codec) *mqttConn {
	c := &mqttConn{
		conn:        conn,
		inbox:       in,
		outbox:      out,
		codec:       codec,
		terms:       terms{protocol: codec.protocol()},
		form:        form{protocol: codec.protocol()},
		unsent:      newUnsent(conn),
		staleAfter:  staleAfter,
		lastRead:    time.Now(),
		begun:       time.Now(),
		buf:         make([]byte, firstBuffer),
		acks:        newAcks(&in.done),
		statusAcked: [2]chan ReasonCode{make(chan ReasonCode, 1), make(chan ReasonCode, 1)},
		alive:       make(chan struct{}, 1),
		writeLock:   make(chan struct{}, 1),
		handover:    make(chan partialWrite, 1),
		done:        make(chan struct{}),
	}
	if tcp, ok := conn.(*net.TCPConn); ok { // neither TLS nor WebSocket can (crypto/tls, Conn.SetDeadline)
		c.resumable = true
		c.raw.use(tcp)
	}
	c.peer.watch(conn)
	c.acks.carried = in.carried
	return c
}

// accepted makes ready for messages: the broker has accepted us. present says that it
// remembers the session.
func (c *mqttConn) accepted(present bool) {
	if !present {
		c.acks.reset() // the broker remembers nothing of us [MQTT-3.2.2-3]
	}
	buf := make([]byte, readBuffer)
	c.w = copy(buf, c.buf[c.r:c.w])
	c.buf, c.r = buf, 0
	c.batch, c.pubAcks = make([]Message, 0, maxBatch), make([]pubAck, 0, maxBatch)
}

// readLoop is the goroutine that reads.
func (c *mqttConn) readLoop() {
	for {
		if err := c.step(); err != nil {
			c.sayWhy(err)
			_ = c.fail(err)
			return
		}
	}
}

// step parses and delivers what there is, and reads more if there is no more to parse.
func (c *mqttConn) step() error {
	more, err := c.parse()
	if e := c.deliver(); err == nil {
		err = e
	}
	if err == nil && more {
		err = c.fill()
	}
	return err
}

// parse takes frames off the buffer until the batch is full, or it has met a frame
// before which the batch is to be delivered, or more bytes are needed.
func (c *mqttConn) parse() (more bool, err error) {
	if !c.skip() {
		return true, nil
	}
	for len(c.batch) < maxBatch && len(c.pubAcks) < maxBatch {
		b := c.buf[c.r:c.w]
		head, rest, err := fixedHeader(b)
		if err != nil || head == 0 {
			return true, err
		}
		if kind := b[0] >> 4; kind != typePublish {
			answers := kind == typePuback || kind == typePubrec || kind == typePubcomp
			if !answers && len(c.batch)+len(c.pubAcks) > 0 {
				return false, nil // what came before goes before
			}
			if more, err := c.parseControl(b, head, rest); more || err != nil {
				return more, err
			}
			continue
		}
		if err := publishFlags(b); err != nil {
			return false, err
		}
		end := head + rest
		if end > MaxMessage {
			if whole, err := c.parseOversize(b, head, rest); !whole {
				return true, err
			}
			continue
		}
		if len(b) < end {
			return true, nil
		}
		topic, props, id, payload, err := c.publishHead(b[:end], head, rest)
		if err != nil {
			return false, err
		}
		c.batch = append(c.batch, message(b[0], topic, b[payload:end:end], id))
		c.batch[len(c.batch)-1].Properties = props
		c.r += end
	}
	return false, nil
}

// parseControl reads a frame that is not a message.
func (c *mqttConn) parseControl(b []byte, head, rest int) (more bool, err error) {
	kind := b[0] >> 4
	if kind == typeConnack {
		return false, violation("MQTT-3.2.0-1", "CONNACK is not the only one", b)
	}
	if err := c.codec.checkHeader(b[0], rest, b); err != nil {
		return false, err
	}
	if kind == typeSuback && c.terms.protocol == Protocol311 {
		if more, err := checkSuback(b, head, rest, c.requests.filters); more || err != nil {
			return more, err
		}
	}
	end := head + rest
	if len(b) < end {
		return true, nil
	}
	if err := c.codec.checkBody(b[0], b[head:end], b); err != nil {
		return false, err
	}
	c.r += end
	return false, c.control(kind, b[:end], b[head:end])
}

// control does what is to be done about a frame that is not a message.
func (c *mqttConn) control(kind byte, frame, body []byte) error {
	switch kind {
	case typePuback, typePubrec, typePubcomp:
		id, code, reason := readAck(body)
		if reason != "" && code.refuses() {
			c.noteReason(id, reason)
		}
		c.pubAcks = append(c.pubAcks, pubAck{kind, code, id})
	case typePubrel:
		known, err := c.acks.completeQoS2(packetID(body))
		if err != nil || known {
			return err
		}
		return c.countStray(1)
	case typeSuback:
		answer, err := c.codec.readSuback(frame)
		if err == nil {
			err = c.checkAnswer(&answer, frame)
		}
		if err != nil {
			return err
		}
		c.requests.answered(answer)
	case typeUnsuback:
		answer, err := c.codec.readUnsuback(frame)
		if err != nil {
			return err
		}
		if !c.requests.unsubscribed(answer) {
			return c.countStray(1)
		}
	case typeDisconnect:
		return readDisconnect(body)
	case typePingresp: // a sign of life, as every byte; see noteAlive
		if c.pongs++; c.outbox.answeredPings(c, c.pongs) {
			return c.countStray(-1)
		}
		return c.countStray(1)
	}
	return nil
}

// noteReason keeps what the broker says beside a code until the code is dealt with.
func (c *mqttConn) noteReason(id uint16, reason string) {
	if c.reasons == nil {
		c.reasons = make(map[uint16]string)
	}
	c.reasons[id] = reason
}

// checkAnswer checks that a SUBACK has as many codes as its SUBSCRIBE had filters.
func (c *mqttConn) checkAnswer(a *subAck, frame []byte) error {
	switch c.requests.filters(a.id) {
	case 0:
		return violation("MQTT-3.8.4-2", "SUBACK for a SUBSCRIBE that was not sent", frame)
	case len(a.codes):
		return nil
	}
	return violation("MQTT-3.8.4-5", "SUBACK with more or fewer return codes than filters were asked for", frame)
}

// maxStray is how many answers that fit nothing a broker may send between two signs of
// life that it was asked for: as many as there are packet identifiers. That is far more than
// the repetitions and leftovers that are known to happen, and nothing that a processor
// is kept busy with.
const maxStray = maxInFlight

var errStray = fmt.Errorf("the broker answers what it was not asked, without end: more than %d packets (PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK or PINGRESP) that fit nothing", maxStray)

// countStray counts answers that fit nothing; below 0, some that do.
func (c *mqttConn) countStray(n int) error {
	if c.stray = max(c.stray+n, 0); c.stray > maxStray {
		return errStray
	}
	return nil
}

// parseOversize begins to skip a PUBLISH that is larger than MaxMessage. The
// message is handed on when its last byte has passed, for until then it has not
// arrived; whole reports whether it has already.
func (c *mqttConn) parseOversize(b []byte, head, rest int) (whole bool, err error) {
	topic, props, id, payload, err := c.publishHead(b, head, rest)
	if err != nil || payload == 0 {
		return false, err
	}
	c.oversized = message(b[0], bytes.Clone(topic), nil, id)
	c.oversized.Properties = bytes.Clone(props)
	c.oversized.Size, c.oversized.Oversize = head+rest-payload, true
	c.skipping = head + rest
	c.unfinished = unfinished{got: len(b)}
	return c.skip(), nil
}

// skip lets an oversized payload pass by. It is false while more is to come.
func (c *mqttConn) skip() bool {
	if c.skipping == 0 {
		return true
	}
	n := min(c.skipping, c.w-c.r)
	c.r += n
	c.skipping -= n
	if c.skipping > 0 {
		return false
	}
	c.batch = append(c.batch, c.oversized)
	return true
}

// deliver hands on what was parsed and acknowledges what was not held.
func (c *mqttConn) deliver() error {
	acks := c.deliverAcks()
	if err := c.handOn(); err != nil || acks != nil {
		return cmp.Or(err, acks)
	}
	if !c.acks.due() {
		return nil
	}
	return c.writePending()
}

// deliverAcks hands the answers on. What they make room for is written by the connection's
// own goroutine: should the broker not read it, the reader must go on.
func (c *mqttConn) deliverAcks() error {
	if len(c.pubAcks) == 0 {
		return nil
	}
	for _, a := range c.pubAcks {
		if a.kind == typePuback && (a.id == onlineID || a.id == offlineID) {
			select {
			case c.statusAcked[a.id-onlineID] <- a.code:
			default:
			}
		}
	}
	opened, stray, err := c.outbox.acknowledge(c.pubAcks, c.reasons, c.acks.replyPubrel)
	clear(c.reasons)
	if opened {
		c.acks.wakeWriter()
	}
	fit := len(c.pubAcks) - stray
	c.pubAcks = c.pubAcks[:0]
	return cmp.Or(err, c.countStray(stray-fit))
}

// handOn hands the batch on.
func (c *mqttConn) handOn() (err error) {
	batch := c.batch
	c.batch = c.batch[:0]
	if len(batch) == 0 {
		return nil
	}
	if batch = c.overtaken(batch); len(batch) == 0 {
		return nil
	}
	c.inbox.mu.Lock()
	defer c.inbox.mu.Unlock()
	if c.inbox.drained {
		return nil
	}
	if batch, err = c.acks.admit(batch); err != nil {
		return err
	}
	if len(batch) > 0 {
		c.inbox.received.Add(uint64(len(batch)))
		c.inbox.handle(batch)
	}
	c.acks.markUnheldDone(batch)
	return nil
}

// fill reads what there is, and waits for it if need be.
func (c *mqttConn) fill() error {
	// What is left is less than a frame. It moves at most once, for afterwards
	// it lies at the start.
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		if c.skipping == 0 { // another frame than at the last read
			c.unfinished = unfinished{}
		}
	}
	if c.skipping == 0 {
		c.unfinished.got = c.w
	}
	c.unfinished.begin()
	c.readSince.Store(int64(time.Since(c.begun)) | 1)
	n, err := c.conn.Read(c.buf[c.w:])
	c.readSince.Store(0)
	c.w += n
	c.notePause(n)
	if n == 0 {
		return err
	}
	c.noteAlive()
	return c.unfinished.progress(n) // an error of Read comes again
}

// unfinished is the frame that is read in part.
type unfinished struct {
	got   int       // bytes of it
	since time.Time // when it was found unfinished first
}

const (
	// A frame may take frameTime and what its bytes need at frameRate, in bytes a second.
	// Lines by satellite are as slow as 2,400 bit/s.
	frameTime = 60 * time.Second
	frameRate = 64
)

var errUnfinished = fmt.Errorf("the broker does not finish a packet that it has begun: after %v it has sent fewer than %d bytes of it a second; it hangs, or the line is of no use", frameTime, frameRate)

// begin is called before more is waited for.
func (u *unfinished) begin() {
	if u.got > 0 && u.since.IsZero() {
		u.since = time.Now()
	}
}

// progress notes n bytes more. Each is a sign of life, so that a frame could go on for
// ever, one byte at a time.
func (u *unfinished) progress(n int) error {
	if u.since.IsZero() {
		return nil // there was none
	}
	u.got += n
	if time.Since(u.since) > frameTime+time.Duration(u.got)*time.Second/frameRate {
		return errUnfinished
	}
	return nil
}
