package session

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"topicast/internal/brokerurl"
)

// Two versions of MQTT are spoken, 3.1.1 and 5. What differs between them stands in their codecs
// (codec311.go, codec5.go); the rest of the package knows one protocol, in which what only
// MQTT 5 can say is left out with 3.1.1.
//
// With ProtocolAuto a broker is asked in MQTT 5 first. One that speaks only 3.1.1 refuses that
// (code 1, or 0x84), answers as 3.1.1 does, or closes the connection without a word. Then it is
// asked in 3.1.1 at once, and from then on, until it may have been replaced by another version:
// after forgetProtocol a new connection tries MQTT 5 again.

// Protocol is a version of MQTT.
type Protocol byte

const (
	Protocol311  Protocol = iota // MQTT 3.1.1
	Protocol5                    // MQTT 5
	ProtocolAuto                 // MQTT 5, and 3.1.1 with a broker that does not speak 5
)

func (p Protocol) String() string { return [...]string{"3.1.1", "5", "auto"}[p] }

// A codec writes and reads the control packets of one version, but for PUBLISH and its
// acknowledgements, which frame.go has.
//
// A packet of the broker is checked by its fixed header first (checkHeader), so that one that cannot
// be is never waited for and costs no memory, and once it is whole by its contents (checkBody). Only
// then is it read.
type codec interface {
	protocol() Protocol

	// The will is what the broker is to publish when the connection ends without a DISCONNECT.
	connect(o *Options, will *Status, password string) []byte
	subscribe(id uint16, filters []string, options []subscribeOptions, identifier uint32) []byte
	unsubscribe(id uint16, filters []string) []byte
	disconnect(code ReasonCode) []byte

	checkHeader(first byte, rest int, frame []byte) error
	checkBody(first byte, body, frame []byte) error

	// These read what was checked.
	readConnack(frame []byte) (connAck, error)
	readSuback(frame []byte) (subAck, error)
	readUnsuback(frame []byte) (subAck, error)
}

// subscribeOptions are how a filter is asked for.
type subscribeOptions struct {
	qos        byte
	noRetained bool // Retain Handling 2, MQTT 5, section 3.8.3.1
	noLocal    bool // likewise
}

// connAck is what a CONNACK says.
type connAck struct {
	present bool // the broker has the session
	code    ReasonCode
	reason  string // the broker's words
	terms   terms
}

// subAck is what a SUBACK or an UNSUBACK says.
type subAck struct {
	id     uint16
	codes  []ReasonCode
	reason string // the broker's words; all filters share it
}

// terms are what a broker takes of us on a connection, MQTT 5, section 3.2.2.3. The zero terms
// are those of MQTT 3.1.1, which has no words for any of them.
type terms struct {
	protocol  Protocol
	inFlight  int    // messages of QoS 1 and 2 at once (Receive Maximum); 0: not said
	qos1Most  bool   // it takes no QoS 2 (Maximum QoS)
	noRetain  bool   // it keeps no messages (Retain Available)
	maxPacket int    // bytes of a packet (Maximum Packet Size); 0: not said
	keepAlive int    // seconds (Server Keep Alive); 0: not said
	clientID  string // that it has assigned to us
	expires   bool   // it says how long it keeps the session:
	expiry    uint32 // in seconds (Session Expiry Interval)
	aliases   int    // topics that may be published by an alias (Topic Alias Maximum)
	noIDs     bool   // it has no Subscription Identifiers,
	noWild    bool   // no filters with wildcards,
	noShared  bool   // and no shared subscriptions
}

// cannot is why a filter is not to be asked for: what the broker has said that it cannot do is a
// protocol error to ask for, which ends the connection (section 3.2.2.3); 0: it may be.
func (t *terms) cannot(filter string) ReasonCode {
	switch {
	case t.noShared && strings.HasPrefix(filter, sharePrefix):
		return reasonSharedFilters
	case t.noWild && strings.ContainsAny(filter, "+#"):
		return reasonWildcards
	}
	return 0
}

// sharePrefix begins the filter of a shared subscription, section 4.8.2.
const sharePrefix = "$share/"

// warnOfShares tells, once, of a silence that nothing else would explain: a broker of MQTT 3.1.1 may
// share subscriptions too, but one that does not grants them, and nothing ever comes.
func (s *Session) warnOfShares(conn *connection) {
	if conn.mqtt.terms.protocol != Protocol311 || s.sharesTold {
		return
	}
	s.mu.Lock()
	filter := ""
	if i := slices.IndexFunc(s.subs.wanted, func(sub *subscription) bool { return strings.HasPrefix(sub.Filter, sharePrefix) }); i >= 0 {
		filter = s.subs.wanted[i].Filter
	}
	s.mu.Unlock()
	if filter == "" {
		return
	}
	s.sharesTold = true
	s.log.Warn("shared subscriptions are of MQTT 5, and this broker is spoken to in 3.1.1: it may share them all the same; one that does not takes $share for a topic, and nothing comes by it",
		"broker", conn.broker, "filter", filter)
}

// form is what of the terms shows in a PUBLISH of ours.
type form struct {
	protocol  Protocol
	qos1Most  bool
	noRetain  bool
	maxPacket int
}

func (t *terms) form() form { return form{t.protocol, t.qos1Most, t.noRetain, t.maxPacket} }

// forgetProtocol is for how long a broker that spoke only MQTT 3.1.1 is taken to do so still.
const forgetProtocol = time.Hour

// codecFor is how a broker is talked to first. fallback reports whether it may be one that
// speaks MQTT 3.1.1 alone.
func (s *Session) codecFor(u *url.URL, now time.Time) (_ codec, fallback bool) {
	s.oldMu.Lock()
	defer s.oldMu.Unlock()
	since, old := s.old[u]
	switch {
	case s.o.Protocol == Protocol311, s.o.Protocol == ProtocolAuto && old && now.Sub(since) < forgetProtocol:
		return codec311{}, false
	}
	return codec5{}, s.o.Protocol == ProtocolAuto
}

// noteOld notes that a broker speaks MQTT 3.1.1 alone.
func (s *Session) noteOld(u *url.URL, now time.Time) {
	s.oldMu.Lock()
	defer s.oldMu.Unlock()
	if _, known := s.old[u]; !known {
		s.log.Info("the broker does not speak MQTT 5, and is talked to in MQTT 3.1.1", "broker", brokerurl.Shown(u))
	}
	if s.old == nil {
		s.old = make(map[*url.URL]time.Time)
	}
	s.old[u] = now
}

// isOld reports whether a broker has said that it does not speak MQTT 5, and mayBeOld whether it
// may have meant that.
func isOld(err error) bool {
	e, ok := errors.AsType[*RefusedError](err)
	return ok && e.Code == reasonVersion
}

func mayBeOld(err error) bool {
	_, broken := errors.AsType[*ProtocolError](err)
	return isOld(err) || broken || closedByBroker(err)
}

// granted is what the log says of the terms of a connection: what somebody may look for when
// something is missing.
func (conn *connection) granted() (args []any) {
	t := &conn.mqtt.terms
	if t.protocol == Protocol311 {
		return nil
	}
	args = []any{"protocol", t.protocol.String()}
	for _, a := range []struct {
		key  string
		said bool
		what any
	}{
		{"client_id", t.clientID != "", cut(t.clientID)},
		{"session_expiry", t.expires, time.Duration(t.expiry) * time.Second},
		{"receive_maximum", t.inFlight > 0, t.inFlight},
		{"maximum_packet_size", t.maxPacket > 0, t.maxPacket},
		{"topic_alias_maximum", t.aliases > 0, t.aliases},
		{"maximum_qos", t.qos1Most, 1},
		{"retain_available", t.noRetain, false},
		{"wildcard_subscription_available", t.noWild, false},
		{"shared_subscription_available", t.noShared, false},
		{"server_keep_alive", t.keepAlive > 0, time.Duration(t.keepAlive) * time.Second},
	} {
		if a.said {
			args = append(args, a.key, a.what)
		}
	}
	return args
}
