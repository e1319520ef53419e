package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// The ways in which a broker can be ill. Each says what becomes of a packet: whether it is
// answered as by a broker that is well, or with what, or whether it ends the connection.
var illnesses = map[string]func(cp packets.ControlPacket) (answer []byte, end, ill bool){
	"closes at CONNECT": func(cp packets.ControlPacket) ([]byte, bool, bool) {
		_, is := cp.(*packets.ConnectPacket)
		return nil, is, is
	},
	"server unavailable": func(cp packets.ControlPacket) ([]byte, bool, bool) {
		_, is := cp.(*packets.ConnectPacket)
		return connack(false, 3), is, is
	},
	"bad password": func(cp packets.ControlPacket) ([]byte, bool, bool) {
		_, is := cp.(*packets.ConnectPacket)
		return connack(false, 4), is, is
	},
	"dies of SUBSCRIBE": func(cp packets.ControlPacket) ([]byte, bool, bool) {
		_, is := cp.(*packets.SubscribePacket)
		return nil, is, is
	},
	"refuses all filters": func(cp packets.ControlPacket) ([]byte, bool, bool) {
		s, is := cp.(*packets.SubscribePacket)
		if !is {
			return nil, false, false
		}
		codes := make([]byte, len(s.Topics))
		for i := range codes {
			codes[i] = subackFailure
		}
		return suback(s.MessageID, codes...), false, true
	},
	"dies of PUBLISH": func(cp packets.ControlPacket) ([]byte, bool, bool) {
		_, is := cp.(*packets.PublishPacket)
		return nil, is, is
	},
	"dies of each message": func(cp packets.ControlPacket) ([]byte, bool, bool) {
		m, is := cp.(*packets.PublishPacket)
		return nil, is && m.TopicName != "status", is && m.TopicName != "status"
	},
	"dies of all but CONNECT": func(cp packets.ControlPacket) ([]byte, bool, bool) {
		_, is := cp.(*packets.ConnectPacket)
		return nil, !is, !is
	},
	"forgets the name": nil, // no connection comes about
}

// However a broker was ill, and for however long: within five seconds of its being well
// again subscriptions are granted, and all messages go to it. One that died of SUBSCRIBE may
// have seemed to have a limit; then those left out come back within half a minute more.
func TestABrokerThatIsWellAgainIsUsedWithinFiveSeconds(t *testing.T) {
	for name, illness := range illnesses {
		for _, tt := range []struct {
			filters int
			every   time.Duration // a message; 0: none
		}{{1, 0}, {1, time.Second}, {40, 0}, {40, 100 * time.Millisecond}} {
			t.Run(fmt.Sprintf("%s, %d filters, a message each %v", name, tt.filters, tt.every), func(t *testing.T) {
				for _, ill := range []time.Duration{4 * time.Second, 11 * time.Second, 70 * time.Second, 61 * time.Minute} {
					if ill > time.Hour && (tt.every > 0 || tt.filters > 1) {
						continue // it takes long
					}
					synctest.Test(t, func(t *testing.T) { healsSoon(t, illness, tt.filters, tt.every, ill) })
				}
			})
		}
	}
}

// surplusOrOut are the subscriptions that are left out for now, while others are granted.
func (c *client) surplusOrOut() (subs []SubscriptionState) {
	s := c.State()
	if s.Active == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.Troubled), func(sub SubscriptionState) bool {
		return !sub.Surplus && !strings.Contains(sub.Err, "left out for now")
	})
}

func healsSoon(t *testing.T, illness func(packets.ControlPacket) ([]byte, bool, bool), filters int, every, ill time.Duration) {
	var sick atomic.Bool
	var peers sync.Map
	b := newPipeBroker(t)
	well := newLimited(t, b) // with no limits
	go func() {
		for {
			select {
			case conn := <-b.conns:
				p := &peer{t: t, Conn: conn, in: make(chan packets.ControlPacket, 1<<12)}
				peers.Store(p, true)
				go p.readAll()
				go func() {
					defer p.Close()
					defer peers.Delete(p)
					for cp := range p.in {
						answer, end, is := []byte(nil), false, false
						if sick.Load() && illness != nil {
							answer, end, is = illness(cp)
						}
						if !is {
							well.mu.Lock()
							answer = well.answer(cp)
							well.mu.Unlock()
						}
						if len(answer) > 0 {
							_, _ = p.Write(answer)
						}
						if end {
							return
						}
					}
				}()
			case <-t.Context().Done():
				return
			}
		}
	}()
	c := start(t, Options{URLs: []string{b.url()}, Status: &Status{"status"}, Subscriptions: manyFilters(filters), GiveUpAfter: 3}, func(s *Session) {
		s.open = func(ctx context.Context, u *url.URL) (net.Conn, error) {
			if sick.Load() && illness == nil {
				return nil, errors.New("DNS fails")
			}
			return b.dial(ctx, u)
		}
	})
	o := &teller{}
	if every > 0 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				c.PublishBatch([]Publication{{Topic: fmt.Appendf(nil, "a/%d", n%3), QoS: 1, Origin: o}})
				time.Sleep(every)
			}
		}()
	}
	time.Sleep(40 * time.Second)
	sick.Store(true)
	peers.Range(func(p, _ any) bool { _ = p.(*peer).Close(); return true })
	time.Sleep(ill)
	sick.Store(false)
	time.Sleep(5 * time.Second)
	synctest.Wait()
	s := c.State()
	if s.Active < filters && len(c.surplusOrOut()) > 0 { // it was taken for a limit, or a filter for the cause
		time.Sleep(firstProbeNone * probeGrowth * (1 + probeGrowth))
		synctest.Wait()
		s = c.State()
	}
	if s.Active != filters {
		t.Errorf("ill for %v, and 5 s later %d of %d filters are active:\n%s", ill, s.Active, filters, c.log)
	}
	if !s.Connected || s.Outstanding > 1 { // the last one may be on its way
		t.Errorf("ill for %v, and 5 s later connected: %v, %d messages wait:\n%s", ill, s.Connected, s.Outstanding, c.log)
	}
	if told := strings.Join(o.told(), "; "); strings.Contains(told, "lost") {
		t.Errorf("ill for %v: %s", ill, told)
	}
	if n := len(c.log.lines("")); n > 20+int(ill/time.Minute) {
		t.Errorf("%d lines of the log for %v:\n%s", n, ill, c.log)
	}
}

// A SYN or a question for a name that was lost is not waited for.
func TestAHostThatIsBackIsNotKeptWaitingByWhatItNeverGot(t *testing.T) {
	for _, back := range []time.Duration{0, 100 * time.Millisecond, 3100 * time.Millisecond, 7100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			var open sync.Map
			ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
			defer cancel()
			conn, err := dialAgain(ctx, func(ctx context.Context) (net.Conn, error) {
				if time.Since(begin) < back { // they come through, though late
					time.Sleep(dialPause + time.Second)
				}
				ours, theirs := net.Pipe()
				open.Store(theirs, true)
				go func() {
					_, _ = theirs.Read(make([]byte, 1))
					open.Delete(theirs)
				}()
				return ours, nil
			})
			if err != nil {
				t.Errorf("back after %v: %v", back, err)
			}
			_ = conn.Close()
			synctest.Wait()
			open.Range(func(any, any) bool { t.Errorf("back after %v: a connection is left open", back); return true })
		})
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
		defer cancel()
		conn, err := dialAgain(ctx, func(ctx context.Context) (net.Conn, error) {
			if time.Since(begin) < 4*time.Second {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return pipe{}, nil
		})
		if d := time.Since(begin); err != nil || conn == nil || d > 4*time.Second+dialPause {
			t.Errorf("%v after %v", err, d)
		}
		_, err = dialAgain(ctx, func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		want := errors.New("refused")
		if _, err := dialAgain(t.Context(), func(context.Context) (net.Conn, error) { return nil, want }); err != want {
			t.Error(err)
		}
	})
}
