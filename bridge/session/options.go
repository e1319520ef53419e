package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Options says which session to keep, and with which broker.
type Options struct {
	// URLs are the addresses of the broker, tried in order at every connect, those
	// last for 5 minutes that gave no answer:
	// mqtt://host:1883, mqtts://host:8883, ws://host/path, wss://host/path.
	URLs []string

	// ReturnAfter is how often the first of URLs is tried while another is in use; when it is there
	// the session goes back to it. 0: never.
	ReturnAfter time.Duration

	// ClientID names the session at the broker, which must know no other client
	// of that name. Required unless Clean is set.
	ClientID string

	// Username and Password are what the broker is told. Password is called at
	// every connect; nil: no password. MQTT 3.1.1 knows no password without a
	// user name [MQTT-3.1.2-22].
	Username string
	Password func() (string, error)

	// Lifetime says how long a password is good for that was got just now, such as a token; 0: that is
	// not known. Before nine tenths of it are over, the session logs in anew on a connection of its own
	// accord, which costs no message. nil: each is good for ever.
	Lifetime func(password string) time.Duration

	// TLS is called at every connect to an mqtts or wss address; nil: the
	// system's authorities and no certificate of our own.
	TLS func(host string) (*tls.Config, error)

	// Proxy is what the broker is reached through; nil: no proxy.
	Proxy *Proxy

	// Bind is the address of this host, or on Linux the interface, that connections leave from; "":
	// as the routes say.
	Bind string

	// Dial opens a connection to an address; nil: as its scheme says. Tests have
	// their own.
	Dial func(ctx context.Context, u *url.URL) (net.Conn, error)

	// KeepAlive is how long the connection may be silent, in whole seconds, up to
	// 65535 s; 0: 30 s. A broker that was silent for half of that is asked for a
	// sign of life, and given up when none comes for that long, at most 20 s. So one
	// that is gone without a word is noticed after 1 to 1.5 times KeepAlive, with a
	// KeepAlive above 20 s sooner. Any byte is a sign of life.
	KeepAlive time.Duration

	// Protocol is the version of MQTT that is spoken.
	Protocol Protocol

	// Clean asks the broker to remember nothing between two connections. What
	// is published meanwhile is then lost.
	Clean bool

	// SessionExpiry is how long the broker is to remember the session while there is no connection, in
	// whole seconds, up to 2^32-2 s; 0: for ever. It may keep it for less. With MQTT 3.1.1, or where
	// Clean is set, it is not used.
	SessionExpiry time.Duration

	// MaxInFlight is how many publications of QoS 1 and 2 may await the broker's
	// acknowledgement, 1 to 32767; 0: 1000.
	MaxInFlight int

	// MaxSubs is how many subscriptions the broker takes, MaxFilters how many filters in one SUBSCRIBE, and
	// MaxPacket how many bytes a packet may have; 0: what it says, or is found to take.
	MaxSubs, MaxFilters, MaxPacket int

	// MaxRate is how many messages a second are published, evenly spaced, up to 100,000; 0: as many as there
	// are. What is more waits.
	MaxRate int

	// TopicAliases has topics that come again be published by an alias, where the broker takes any.
	TopicAliases bool

	// GiveUpAfter is how many connections the broker must end over one publication of QoS
	// 1 or 2, given to it alone, while it takes others, until that is given up; 0: it never is,
	// and no topic is barred.
	GiveUpAfter int

	// Status, where not nil, keeps a retained message at the broker that says
	// whether this session is there.
	Status *Status

	// Subscriptions are asked for at every connect. SetSubscriptions changes them.
	Subscriptions []Subscription

	// Former are filters that a process before this one may have subscribed to. Those that nobody wants are
	// unsubscribed where the broker remembers the session: else it would hand out what they match for ever.
	Former []string

	// Handle receives the messages in the order in which they came, from one
	// goroutine at a time. It must not block: while it runs nothing is read from
	// the broker, not even its signs of life. It may set Hold, and change
	// nothing else. What it does not hold is acknowledged when it returns.
	Handle func(batch []Message)

	// Changed is called after every change of the state, by one goroutine at a
	// time; nil: nobody is told. It must not block.
	Changed func(State)

	// Logger hears of connects and losses; nil: nobody.
	Logger *slog.Logger
}

// Status is the topic of the retained status message: "online" while connected,
// "offline" after an orderly end and, as the will, after any other.
type Status struct{ Topic string }

const (
	statusOnline  = "online"
	statusOffline = "offline"
)

// check reports every fault of the options at once.
func (o *Options) check() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(len(o.URLs) == 0, "no broker url")
	fault(o.Handle == nil, "no Handle")
	fault(o.ClientID == "" && !o.Clean, "a persistent session needs a client_id [MQTT-3.1.3-7]")
	fault(!encodable(o.ClientID), "client_id %q: want UTF-8 without NUL, at most 65535 bytes", o.ClientID)
	fault(!encodable(o.Username), "username %q: want UTF-8 without NUL, at most 65535 bytes", o.Username)
	fault(o.KeepAlive < 0 || o.KeepAlive > math.MaxUint16*time.Second || o.KeepAlive%time.Second != 0,
		"keep_alive %v: want whole seconds, 1s to 65535s", o.KeepAlive)
	fault(o.SessionExpiry < 0 || o.SessionExpiry > (neverExpires-1)*time.Second || o.SessionExpiry%time.Second != 0,
		"session_expiry %v: want whole seconds, up to %d s", o.SessionExpiry, uint32(neverExpires-1))
	fault(o.MaxInFlight < 0 || o.MaxInFlight > maxWindow, "max_in_flight %d: want 1 to %d", o.MaxInFlight, maxWindow)
	fault(o.MaxRate < 0 || o.MaxRate > maxRate, "max_rate %d: want up to %d messages a second", o.MaxRate, maxRate)
	if o.Status != nil {
		fault(!validTopic(o.Status.Topic), "status_topic %q: not a topic name", o.Status.Topic)
	}
	return errors.Join(append(errs, checkSubscriptions(o.Subscriptions))...)
}

// encodable reports whether s fits a string of MQTT, section 1.5.3.
func encodable(s string) bool {
	return len(s) <= math.MaxUint16 && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

func validTopic(s string) bool {
	return s != "" && encodable(s) && !strings.ContainsAny(s, "+#")
}

// validFilter checks a filter against section 4.7. It matters here too: most brokers
// answer one bad filter by closing the connection, and that at every connect.
func validFilter(s string) bool {
	if s == "" || !encodable(s) {
		return false
	}
	for rest, more := s, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if strings.ContainsAny(level, "+#") && level != "+" && (level != "#" || more) {
			return false
		}
	}
	return true
}
