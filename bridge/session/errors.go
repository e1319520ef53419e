package session

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// ProtocolError says that the broker sent something that MQTT 3.1.1 does not
// allow. The connection it came over is closed [MQTT-4.8.0-1].
type ProtocolError struct {
	Clause string // clause ("MQTT-3.3.1-4") or section ("2.2.3") that was broken
	Text   string // what was wrong
	Bytes  []byte // the offending bytes, at most the first 16; none where they do not tell
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

// violation copies what it shows of b, for b lies in a buffer that is reused.
func violation(clause, text string, b []byte) error {
	return &ProtocolError{Clause: clause, Text: text, Bytes: bytes.Clone(b[:min(len(b), 16)])}
}

// RefusedError says that the broker answered CONNECT with a refusal.
type RefusedError struct {
	Code byte // CONNACK return code, 1 to 5, section 3.2.2.3
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("broker refused the connection: %s (CONNACK code %d)", refusals[e.Code], e.Code)
}

var refusals = map[byte]string{
	1: "it does not speak MQTT 3.1.1; use a broker, or a listener of it, that does",
	2: "client identifier rejected; choose another client_id",
	3: "server unavailable; it is up, but its MQTT service is not",
	4: "bad user name or password; check username and password_file",
	5: "not authorized; check username, password_file, and what the broker allows this client_id",
}

var (
	errRepeat       = errors.New("ended by us, for the broker to repeat what was not acknowledged")
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
