package session

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A broker that does not answer, the first of two, costs its patience once in a while and not
// at each reconnect; once it is well it is the first again.
func TestABrokerThatIsSilentDelaysTheOtherOnce(t *testing.T) {
	for name, silence := range map[string]struct {
		patience time.Duration
		open     func(context.Context) (net.Conn, error)
	}{
		"a black hole": {dialTimeout, func(ctx context.Context) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		"accepts, and answers no CONNECT": {connectTimeout, func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				for buf := make([]byte, 1024); ; {
					if _, err := theirs.Read(buf); err != nil {
						return
					}
				}
			}()
			return pipe{ours}, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				var mu sync.Mutex
				var tried []string
				well := false
				took := func() []string {
					mu.Lock()
					defer mu.Unlock()
					was := tried
					tried = nil
					return was
				}
				c := start(t, Options{URLs: []string{"mqtt://first", "mqtt://second"}}, func(s *Session) {
					s.open = func(ctx context.Context, u *url.URL) (net.Conn, error) {
						mu.Lock()
						tried = append(tried, u.Hostname())
						silent := u.Hostname() == "first" && !well
						mu.Unlock()
						if silent {
							return silence.open(ctx)
						}
						return b.dial(ctx, u)
					}
				})
				again := func(wait time.Duration, want ...string) *peer {
					t.Helper()
					time.Sleep(wait)
					p := b.greet(false, 0)
					synctest.Wait()
					if got := took(); !slices.Equal(got, want) {
						t.Errorf("tried %q, want %q", got, want)
					}
					return p
				}
				p := again(silence.patience, "first", "second")
				for range 3 {
					began := time.Now()
					_ = p.Close()
					p = again(0, "second")
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("connected after %v", took)
					}
				}
				if n := strings.Count(c.log.String(), "a broker does not answer"); n != 1 {
					t.Errorf("it is said %d times:\n%s", n, c.log.String())
				}
				time.Sleep(demotedFor)
				_ = p.Close()
				p = again(silence.patience+4*time.Second, "first", "second")
				mu.Lock()
				well = true
				mu.Unlock()
				time.Sleep(demotedFor)
				_ = p.Close()
				again(0, "first")
			})
		})
	}
}

// Where none answers, all are tried in the order of the list, and named in it.
func TestBrokersThatAreAllSilentStayInTheirOrder(t *testing.T) {
	var p preference
	a, b, now := new(url.URL), new(url.URL), time.Now()
	for range 3 {
		for _, u := range p.order([]*url.URL{a, b}, now) {
			p.note(u, context.DeadlineExceeded, now, now.Add(dialTimeout))
			now = now.Add(dialTimeout)
		}
	}
	if got := p.order([]*url.URL{a, b}, now); got[0] != a || got[1] != b {
		t.Error("they have changed places")
	}
	p.note(a, context.DeadlineExceeded, now, now.Add(time.Second)) // nobody listens there
	if got := p.order([]*url.URL{b, a}, now); got[0] != a {
		t.Error("one that refuses does not go before one that is silent")
	}
}

// Neither the time that the command for the password takes, nor a slow line to a broker that
// refuses, is that a broker does not answer.
func TestABrokerThatRefusesIsNotTakenForOneThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func() (string, error) { time.Sleep(3 * time.Second); return "secret", nil }
		c := start(t, Options{URLs: []string{"mqtt://first", "mqtt://second"}, Username: "gw", Password: slow}, func(s *Session) {
			s.open = func(context.Context, *url.URL) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
		})
		time.Sleep(time.Minute)
		if got := c.log.String(); strings.Contains(got, "a broker does not answer") || !strings.Contains(got, "refused") {
			t.Error(got)
		}
		c.stop()
		time.Sleep(3 * time.Second) // the command ends
	})
	var p preference
	a, b, now := new(url.URL), new(url.URL), time.Now()
	p.note(a, fmt.Errorf("handshake: %w", &RefusedError{Code: 5}), now, now.Add(3*time.Second))
	if got := p.order([]*url.URL{a, b}, now.Add(3*time.Second)); got[0] != a {
		t.Error("one that refused slowly has lost its place")
	}
}
