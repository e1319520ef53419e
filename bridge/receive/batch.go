package receive

import (
	"context"
	"log/slog"
	"time"

	"topicast/bridge/session"
)

// batch is the memory of one step 2 to 5.
type batch struct {
	logsEach     bool // log.level is debug: each message is logged
	now          time.Time
	publications []session.Publication
	encoded      []byte
	topic        []byte // scratch of topicIn
}

// idleBatches is how many are kept for the next to come, since thousands of
// sockets that are quiet share a few, and maxEncoded how many bytes each keeps: it is handed
// over before there are more, but for a single message. maxPublications is how many are handed
// over at once: many rules may listen to a group.
const (
	idleBatches     = 16
	maxEncoded      = 128 << 10
	maxPublications = 1024
)

// mayBlock and mayBlockEncoded are the same where messages of QoS 0 are among them: whoever hands
// them over may have to wait for the broker, and thousands of readers with all that they have.
const (
	mayBlock        = 64
	mayBlockEncoded = 8 << 10
)

// mostEncoded is how many bytes a batch has at most that a message of the rule comes to.
func (r *Rule) mostEncoded() int {
	if r.QoS == 0 {
		return mayBlockEncoded
	}
	return maxEncoded
}

func (p *Path) newBatch() *batch {
	var b *batch
	select {
	case b = <-p.batches:
	default:
		b = new(batch)
	}
	b.now, b.logsEach = time.Now(), p.log.Enabled(context.Background(), slog.LevelDebug)
	return b
}

// add takes a message in.
func (b *batch) add(p *Path, m session.Publication) {
	b.publications = append(b.publications, m)
	if n := len(b.publications); n == maxPublications || m.QoS == 0 && n >= mayBlock {
		p.flush(b)
		b.encoded = b.encoded[:0] // the session has copied what it keeps
	}
}

// publish hands a batch to the session, which copies what it keeps.
func (p *Path) publish(b *batch) {
	p.flush(b)
	b.encoded = b.encoded[:0]
	if cap(b.encoded) > maxEncoded {
		b.encoded = nil
	}
	select {
	case p.batches <- b:
	default:
	}
}

// flush hands over what a batch has so far.
func (p *Path) flush(b *batch) {
	if len(b.publications) > 0 {
		p.publisher.PublishBatch(b.publications)
		clear(b.publications)
		b.publications = b.publications[:0]
	}
}
