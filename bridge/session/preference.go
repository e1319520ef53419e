package session

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"topicast/internal/brokerurl"
)

const (
	// unresponsiveAfter is how long a connect must have taken in vain for its address to count as
	// unresponsive. An address that refuses a connection does so sooner.
	unresponsiveAfter = 2 * time.Second

	// demotedFor is how long an unresponsive address is tried after the others. A host that is off,
	// or a firewall that drops, costs each connect up to connectTimeout, and would do so at each
	// reconnect although the next address of the list is well.
	demotedFor = 5 * time.Minute
)

// preference is the order in which addresses are tried. Only the goroutine of Run uses it.
type preference struct {
	unresponsive map[*url.URL]time.Time // when the last connect to an address ended so
}

// order returns the addresses in the order to try them: that of the list, but those that were
// unresponsive lately last.
func (p *preference) order(urls []*url.URL, now time.Time) []*url.URL {
	var first, last []*url.URL
	for _, u := range urls {
		if at, is := p.unresponsive[u]; is && now.Sub(at) < demotedFor {
			last = append(last, u)
		} else {
			first = append(first, u)
		}
	}
	return append(first, last...)
}

// note notes the result of a connect that began at a time. It reports whether the address is
// tried last from now on, and was not before. A broker that refuses in a CONNACK has responded,
// however long its line took.
func (p *preference) note(u *url.URL, err error, began, now time.Time) (demoted bool) {
	at, was := p.unresponsive[u]
	if _, refused := errors.AsType[*RefusedError](err); err == nil || refused || now.Sub(began) < unresponsiveAfter {
		delete(p.unresponsive, u)
		return false
	}
	if p.unresponsive == nil {
		p.unresponsive = make(map[*url.URL]time.Time)
	}
	p.unresponsive[u] = now
	return !was || now.Sub(at) >= demotedFor
}

// forgive has an address be tried in its place again.
func (p *preference) forgive(u *url.URL) { delete(p.unresponsive, u) }

// maxReturns bounds how often the time between two tries of the first address is doubled, as it did
// not hold us.
const maxReturns = 6

// watchFirst tries the first address now and then while another is in use, and tells when it is there.
func (s *Session) watchFirst(ctx context.Context, conn *connection) (there <-chan struct{}, stop func()) {
	if s.o.ReturnAfter <= 0 || conn.url == s.urls[0] {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	found := make(chan struct{})
	every, password := s.o.ReturnAfter<<min(s.returns, maxReturns), s.login.password
	go func() {
		tries := time.NewTicker(every)
		defer tries.Stop()
		for {
			select {
			case <-tries.C:
			case <-ctx.Done():
				return
			}
			if s.isBroker(ctx, s.urls[0], password) {
				close(found)
				return
			}
		}
	}()
	return found, cancel
}

// isBroker reports whether a broker answers at an address: one that takes connections may do nothing else. It
// is asked as a client without a name, for with ours it would throw us out [MQTT-3.1.3-6]; that it
// does not take such a one is an answer too.
func (s *Session) isBroker(ctx context.Context, u *url.URL, password string) bool {
	conn, err := s.open(ctx, u)
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	codec, _ := s.codecFor(u, time.Now())
	c := newMQTTConn(conn, new(inbox), s.outbox, codec)
	o := Options{Clean: true, Username: s.o.Username, KeepAlive: s.o.KeepAlive}
	_, err = c.handshake(codec.connect(&o, nil, password), time.Now().Add(connectTimeout))
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Code != reasonUnavailable && refused.Code != reasonBusy
	}
	if err == nil {
		_, _ = conn.Write(disconnectFrame)
	}
	return err == nil
}

// noteAddress notes how a connect to an address ended, unless we ended it.
func (s *Session) noteAddress(ctx context.Context, u *url.URL, err error, began time.Time) {
	if ctx.Err() == nil && s.preference.note(u, err, began, time.Now()) && len(s.urls) > 1 {
		s.log.Warn("a broker does not answer: for a while the others of broker.url are tried before it",
			"broker", brokerurl.Shown(u), "for", demotedFor, "err", errorText(err))
	}
}

// connect tries the addresses in order. The error names them in the order of the list.
func (s *Session) connect(ctx context.Context) (*connection, error) {
	failed := make(map[*url.URL]error, len(s.urls))
	for _, u := range s.preference.order(s.urls, time.Now()) {
		conn, err := s.connectTo(ctx, u)
		if err == nil {
			return conn, nil
		}
		failed[u] = fmt.Errorf("%s: %w", brokerurl.Shown(u), err)
		if ctx.Err() != nil {
			break
		}
	}
	var all eachAddress
	for _, u := range s.urls {
		if err := failed[u]; err != nil {
			all = append(all, err)
		}
	}
	return nil, all
}
