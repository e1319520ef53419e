package session

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"topicast/internal/brokerurl"
)

// ProtocolError says that the broker sent something that MQTT does not allow. The connection it
// came over is closed [MQTT-4.8.0-1], in MQTT 5 with a DISCONNECT that says why [MQTT-4.13.1-1].
type ProtocolError struct {
	Code   ReasonCode // that the broker is told in MQTT 5
	Clause string     // clause ("MQTT-3.3.1-4") or section ("2.2.3") that was broken
	Text   string     // what was wrong
	Bytes  []byte     // the offending bytes, at most the first 16; none where they do not tell
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("broker broke the protocol: %s [%s]%s", e.Text, e.Clause, e.seen())
}

// seen is the part of the text that differs each time though the broker does the same.
func (e *ProtocolError) seen() string {
	if len(e.Bytes) == 0 {
		return ""
	}
	return fmt.Sprintf(", bytes % x", e.Bytes)
}

// violation is for a packet that a broker may not send as things stand: a protocol error, MQTT 5, section 4.13.1.
func violation(clause, text string, b []byte) error {
	return violate(reasonProtocolError, clause, text, b)
}

// malformedPacket is for one that cannot be read.
func malformedPacket(clause, text string, b []byte) error {
	return violate(reasonMalformed, clause, text, b)
}

// violate copies what it shows of b, for b lies in a buffer that is reused.
func violate(code ReasonCode, clause, text string, b []byte) error {
	return &ProtocolError{Code: code, Clause: clause, Text: text, Bytes: bytes.Clone(b[:min(len(b), 16)])}
}

// RefusedError says that the broker answered CONNECT with a refusal.
type RefusedError struct {
	Protocol Protocol
	Code     ReasonCode
	Reason   string // the broker's words; "" if it has none
}

func (e *RefusedError) Error() string {
	what := refusals[e.Code]
	if what == "" {
		what = reasonTexts[e.Code]
	}
	if e.Code == reasonVersion {
		what = fmt.Sprintf("it does not speak MQTT %v; use a broker, or a listener of it, that does, or set broker.protocol: auto", e.Protocol)
		if e.Protocol == Protocol311 {
			what = "it does not speak MQTT 3.1.1; use a broker, or a listener of it, that does"
		}
	}
	code := fmt.Sprintf("CONNACK reason 0x%02X", byte(e.Code))
	if e.Protocol == Protocol311 {
		code = fmt.Sprintf("CONNACK code %d", slices.Index(codes311[:], e.Code))
	}
	if e.Reason != "" {
		what = fmt.Sprintf("%s; it says %.200q", what, e.Reason)
	}
	return fmt.Sprintf("broker refused the connection: %s (%s)", what, code)
}

// refusals are what to do about a refusal.
var refusals = map[ReasonCode]string{
	reasonClientID:       "client identifier rejected; choose another client_id",
	reasonUnavailable:    "server unavailable; it is up, but its MQTT service is not",
	reasonLogin:          "bad user name or password; check username and password_file",
	reasonNotAuthorized:  "not authorized; check username, password_file, and what the broker allows this client_id",
	reasonBusy:           "server busy; it takes connections again later",
	0x8a:                 "banned; the broker's log says why, and whoever runs it can lift that",
	0x8c:                 "bad authentication method; it wants one that topicast does not have",
	reasonTopic:          "topic name invalid; it does not take the topic of the will: check broker.status_topic",
	reasonQuota:          "quota exceeded; check how many connections or messages it allows this user",
	reasonRetain:         "retain not supported; it does not take a will that is retained",
	reasonQoS:            "QoS not supported; it does not take the will's quality of service",
	reasonOtherServer:    "use another server",
	reasonServerMoved:    "server moved; set broker.url to where it is now",
	reasonConnectionRate: "connection rate exceeded; it takes connections again later",
}

// DisconnectError is what a broker of MQTT 5 says when it ends a connection.
type DisconnectError struct {
	Code   ReasonCode
	Reason string // the broker's words; "" if it has none
	Server string // where it refers to; "": nowhere
}

func (e *DisconnectError) Error() string {
	text := "the broker ended the connection: " + because(e.Code, e.Reason)
	if e.Code == reasonTakenOver {
		text += ": another client uses this client_id; give each its own"
	}
	if e.Code == reasonRate {
		text += ": set broker.max_rate to fewer messages a second than it takes"
	}
	if e.Server != "" {
		text += fmt.Sprintf("; it refers to %.200q: set broker.url to that", brokerurl.ShownText(e.Server))
	}
	return text
}

// Unwrap is errBrokerClosed where the broker may have ended the connection over something that it
// was told: that is looked for then, as with MQTT 3.1.1 at each end (closecause.go).
func (e *DisconnectError) Unwrap() error {
	switch e.Code {
	case reasonUnavailable, reasonBusy, reasonShutdown, reasonKeepAlive, reasonTakenOver, reasonAdministrative, reasonRate,
		reasonOtherServer, reasonServerMoved, reasonConnectionRate, reasonMaxConnectTime:
		return nil
	}
	return errBrokerClosed
}

var (
	errRepeat       = errors.New("ended by us, for the broker to repeat what was not acknowledged")
	errWithWill     = errors.New("ended by us, for the next one to have a will")
	errRenew        = errors.New("ended by us, to log in anew before the password ends")
	errReturn       = errors.New("ended by us, to go back to the first broker of the list")
	errBrokerClosed = errors.New("the broker closed the connection")
	errBrokerReset  = errors.New("the broker reset the connection")
	errLineDead     = fmt.Errorf("the line is dead: nothing that was sent was acknowledged for %v", userTimeout)
	errNoPingresp   = errors.New("the broker gives no sign of life: no pingresp came; it hangs, or the way to it is gone")
	errStalled      = fmt.Errorf("the broker read nothing for %v", writeTimeout)
)

// maxErrorText bounds, in bytes, what a line of the log and the state say of an error. The
// other side words part of it: a certificate can have a name of 100 KB.
const maxErrorText = 2000

// errorText is the text of an error for people.
func errorText(err error) string { return cut(err.Error()) }

// cut leaves out the middle of a text that is too long: the end often says what to do.
func cut(text string) string {
	if len(text) <= maxErrorText {
		return text
	}
	const half = maxErrorText/2 - 10
	return strings.ToValidUTF8(text[:half], "") + " […] " + strings.ToValidUTF8(text[len(text)-half:], "")
}

func errNoAnswer(limit time.Duration) error { return fmt.Errorf("no acknowledgement within %v", limit) }

// timedOut reports whether a deadline has passed. The WebSocket library tells so in an
// error of its own.
func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// closedByBroker reports whether a connection ended because the broker closed or reset it.
func closedByBroker(err error) bool {
	return errors.Is(err, errBrokerClosed) || errors.Is(err, errBrokerReset)
}

// lostError gives the end of a connection its words.
func lostError(err error) error {
	if e := alertCause(err); e != nil {
		return e
	}
	switch {
	case closed(err):
		return errBrokerClosed
	case reset(err):
		return errBrokerReset
	case errors.Is(err, syscall.ETIMEDOUT):
		return errLineDead
	}
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		return fmt.Errorf("%w: WebSocket close code %d %s", errBrokerClosed, e.Code, e.Text)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return &causeError{what: op.Op + ": " + plain(err), err: err}
	}
	return err
}
