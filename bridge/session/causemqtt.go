package session

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/gorilla/websocket"

	"topicast/internal/brokerurl"
)

// websocketCause is for a WebSocket that was not opened; response is what the
// server answered, if it did.
func websocketCause(u *url.URL, response *http.Response, err error) error {
	if e := alertCause(err); e != nil {
		return e
	}
	c := &causeError{err: err}
	const ask = "is this the broker's port for WebSocket? mqtt:// and mqtts:// are for its others, %s"
	c.hint = fmt.Sprintf(ask, map[string]string{"ws": "wss:// for WebSocket with TLS", "wss": "ws:// for WebSocket without TLS"}[u.Scheme])
	foreign, _ := errors.AsType[*notHTTP](err)
	switch {
	case response != nil && response.StatusCode == http.StatusSwitchingProtocols:
		c.what = "the server agrees to a WebSocket, but not as one does (RFC 6455, 4.1): " + wrongAgreement(response.Header)
		c.hint = "a proxy, or a server that is none of WebSocket, answers there: name the broker's port for WebSocket"
	case response != nil:
		c.what = fmt.Sprintf("the server answers %d %s when asked for a WebSocket", response.StatusCode, http.StatusText(response.StatusCode))
		switch code := response.StatusCode; {
		case code == http.StatusNotFound, code == http.StatusMethodNotAllowed:
			c.hint = fmt.Sprintf("check the path in broker.url, %q: brokers have /mqtt, /ws or /", u.Path)
		case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
			c.hint = "what is before the broker wants a login, or allows others only"
		case code >= 500:
			c.hint = "what is before the broker does not reach it: check that the broker runs"
		case code >= 300 && code < 400:
			c.hint = fmt.Sprintf("it refers to %.200q: name that in broker.url", brokerurl.ShownText(response.Header.Get("Location")))
		}
	case errors.Is(err, errLongAnswer):
		c.what = err.Error()
	case timedOut(err):
		c.what = fmt.Sprintf("no answer within %v when asked for a WebSocket", dialTimeout)
	case foreign != nil && strings.HasPrefix(string(foreign.answer), tlsAlert):
		c.what, c.hint = "the port speaks TLS", "wss:// is for a port with TLS, mqtts:// if it is not for WebSocket"
	case foreign != nil:
		c.what = fmt.Sprintf("the port does not speak HTTP, so no WebSocket: it answers with %q", foreign.answer)
	case closed(err), reset(err):
		c.what, c.seen = "the broker closed the connection when asked for a WebSocket", byReset(err)
	default:
		c.what = "no WebSocket: " + plain(err)
	}
	return c
}

// wrongAgreement says what is wrong in the answer of a server that agrees to a WebSocket.
func wrongAgreement(h http.Header) string {
	switch accept := "Sec-WebSocket-Accept"; {
	case !strings.Contains(strings.ToLower(h.Get("Upgrade")), "websocket"):
		return "without Upgrade: websocket"
	case !strings.Contains(strings.ToLower(strings.Join(h.Values("Connection"), ",")), "upgrade"):
		return "without Connection: Upgrade"
	case h.Get(accept) == "":
		return "without " + accept
	default:
		return "its " + accept + " is not the answer to our key"
	}
}

// tlsAlert begins an alert of TLS, with which it answers what is none (RFC 8446, 5.1).
const tlsAlert = "\x15\x03"

// foreignAnswers are the first bytes of what other protocols say to a CONNECT.
var foreignAnswers = []struct{ begin, what, hint string }{
	{tlsAlert, "the port speaks TLS", "mqtts:// is for a port with TLS, wss:// if it is for WebSocket"},
	{"HTTP", "the port speaks HTTP", "ws:// is for a broker's port for WebSocket; or name its MQTT port"},
	{"SSH-", "the port is that of an SSH server", "name the broker's MQTT port"},
	{"AMQP", "the port speaks AMQP", "name the broker's MQTT port"},
	{"+PONG", "the port is that of a Redis server", "name the broker's MQTT port"},
}

// foreignCause is for a port that answers CONNECT in another protocol; nil: it does not.
func foreignCause(e *ProtocolError) error {
	if len(e.Bytes) == 0 {
		return nil
	}
	for _, f := range foreignAnswers {
		if strings.HasPrefix(string(e.Bytes), f.begin) {
			return &causeError{what: f.what, hint: f.hint, err: e}
		}
	}
	for _, b := range e.Bytes {
		if (b < ' ' || b > '~') && b != '\r' && b != '\n' && b != '\t' {
			return nil
		}
	}
	return &causeError{what: fmt.Sprintf("the port does not speak MQTT: it answers with %q", e.Bytes), hint: "name the broker's MQTT port", err: e}
}

// unansweredCause is for a broker that closes the connection instead of answering
// CONNECT.
func unansweredCause(u *url.URL, err error) error {
	return &causeError{what: "the broker closed the connection before it answered CONNECT", seen: byReset(err), err: err,
		hint: otherPort(u) + "; some brokers answer so to a client_id or a user that they do not allow"}
}

// otherPort asks whether the port is the right one, and says which others there are.
func otherPort(u *url.URL) string {
	return "is this its MQTT port? " + map[string]string{
		"mqtt":  "mqtts:// is for one with TLS, ws:// for WebSocket",
		"mqtts": "it may be one for WebSocket (wss://), or ask for a client certificate (broker.tls.cert_file)",
		"ws":    "wss:// is for one with TLS",
		"wss":   "it may ask for a client certificate (broker.tls.cert_file)",
		"unix":  "check the path in broker.url",

		"mqtt+srv":  "mqtts+srv:// is for one with TLS",
		"mqtts+srv": "it may ask for a client certificate (broker.tls.cert_file)",
	}[u.Scheme]
}

// byReset is for a connection that was closed by a reset, which hangs on what the
// other side had not read yet, and so can differ each time.
func byReset(err error) string {
	if reset(err) {
		return "by a reset"
	}
	return ""
}

// closed reports whether the other side closed a connection, and reset whether it did so
// without having read all.
func closed(err error) bool {
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		return e.Code == websocket.CloseAbnormalClosure // no WebSocket close came
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func reset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, errBrokerReset)
}
