package session

import "encoding/binary"

// Packet identifiers are shared out, so that an answer of the broker says by its
// identifier alone who it is for, and two that ask never meet [MQTT-2.3.1-2]:
//
//	0x0001 to 0x7ffd  SUBSCRIBE and UNSUBSCRIBE, by paho
//	0x7ffe, 0x7fff    the status messages, each once on a connection
//	0x8000 to 0xffff  publications, in their order
const (
	subscribeIDs       = 0x7ffd
	onlineID           = 0x7ffe
	offlineID          = 0x7fff
	firstPublicationID = 0x8000
	publicationIDs     = 0x8000

	// maxWindow is the most publications that may await an acknowledgement: one
	// less than there are identifiers, so that an identifier rests between two uses.
	maxWindow = publicationIDs - 1
)

// publicationID is the identifier of the publication with a number.
func publicationID(n uint64) uint16 { return firstPublicationID | uint16(n%publicationIDs) }

// asked is a SUBSCRIBE or UNSUBSCRIBE that has no answer yet.
type asked struct {
	id      uint16 // what paho calls it
	filters int    // of a SUBSCRIBE; 0: an UNSUBSCRIBE
}

// asks remembers a SUBSCRIBE or UNSUBSCRIBE of paho's, and returns it with an
// identifier that is paho's to use. paho counts up to 65,535, and would get into
// those of publications when it has asked for a refused filter once a minute for
// three weeks. p itself is paho's, and stays as it is.
func (l *lane) asks(p []byte, head int) []byte {
	a := asked{id: binary.BigEndian.Uint16(p[head:])}
	if p[0]>>4 == typeSubscribe {
		_, a.filters = subscribeFilters(p[head:])
	}
	wire := 1 + (a.id-1)%subscribeIDs
	l.subMu.Lock()
	defer l.subMu.Unlock()
	l.subs[wire] = a
	l.subBuf = append(l.subBuf[:0], p...)
	binary.BigEndian.PutUint16(l.subBuf[head:], wire)
	return l.subBuf
}

// asked gives what a SUBACK or UNSUBACK is for.
func (l *lane) asked(wire uint16) (a asked, ok bool) {
	l.subMu.Lock()
	defer l.subMu.Unlock()
	a, ok = l.subs[wire]
	return a, ok
}

// answered forgets what the SUBACK or UNSUBACK in body is for, and gives it the
// identifier that paho knows. It lies in the buffer of the lane.
func (l *lane) answered(body []byte) {
	wire := binary.BigEndian.Uint16(body)
	l.subMu.Lock()
	defer l.subMu.Unlock()
	binary.BigEndian.PutUint16(body, l.subs[wire].id)
	delete(l.subs, wire)
}
