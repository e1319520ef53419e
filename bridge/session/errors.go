package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// ProtocolError says that the broker sent something that MQTT 3.1.1 does not
// allow. The connection it came over is closed [MQTT-4.8.0-1].
type ProtocolError struct {
	Clause string // clause ("MQTT-3.3.1-4") or section ("2.2.3") that was broken
	Text   string // what was wrong
	Bytes  []byte // the offending bytes, at most the first 16
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("broker broke the protocol: %s [%s], bytes % x", e.Text, e.Clause, e.Bytes)
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
	errStalled      = fmt.Errorf("the broker read nothing for %v", writeTimeout)
)

// timedOut says whether a deadline has passed. The WebSocket library tells so in an
// error of its own.
func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// lostError gives the end of a connection its words. What paho reads must never
// look like net.ErrClosed: paho takes that for its own doing, and would believe
// in a dead connection until the next keep-alive.
func lostError(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errBrokerClosed
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errBrokerReset
	case errors.Is(err, net.ErrClosed):
		return errors.New("the connection was closed")
	}
	return err
}
