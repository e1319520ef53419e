package session

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// lines are those of a log that have a text in them.
func (l *logBuffer) lines(text string) (found []string) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// logged is a connectionLog whose lines can be read, and what becomes of a session
// that tells it.
type logged struct {
	connectionLog
	buffer *logBuffer
}

func newLogged() *logged {
	b := new(logBuffer)
	return &logged{connectionLog{log: slog.New(slog.NewTextHandler(b, nil)), lines: make(map[string]bool)}, b}
}

// lives is a connection that is lost after a time.
func (c *logged) lives(d time.Duration) {
	c.connected(&connection{mqtt: new(mqttConn), broker: "mqtt://b:1883"})
	for end := time.Now().Add(d); ; {
		next := c.next()
		if next.After(end) {
			time.Sleep(time.Until(end))
			break
		}
		time.Sleep(time.Until(next))
		if c.lasted() {
			time.Sleep(time.Until(end))
			break
		}
	}
	c.ended("mqtt://b:1883", errBrokerClosed)
}

// all are the lines.
func (c *logged) all() []string { return c.buffer.lines("msg=") }

// A connection that is made and lost again, for days, however fast, and whatever
// is in between, does not fill the log; and the log says how often it was.
func TestAConnectionThatComesAndGoesDoesNotFillTheLog(t *testing.T) {
	refused, away := errors.New("refused"), errors.New("away")
	for _, tt := range []struct {
		life  time.Duration
		fails []error
	}{
		{time.Second, nil}, {20 * time.Second, nil}, {40 * time.Second, nil}, {10 * time.Minute, nil}, {50 * time.Minute, nil},
		{time.Second, []error{refused, refused}}, {10 * time.Second, []error{refused, away, refused}},
		{40 * time.Second, []error{refused, away, refused}},
	} {
		t.Run(fmt.Sprint(tt.life, tt.fails), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newLogged()
				const days = 2
				n := 0
				for end := time.Now().Add(days * 24 * time.Hour); time.Now().Before(end); n++ {
					c.lives(tt.life)
					time.Sleep(time.Second)
					for _, err := range tt.fails {
						c.failed(err)
						time.Sleep(time.Second)
					}
				}
				if lines := c.all(); len(lines) < 8+days-4 || len(lines) > 8+2*11+2*days {
					t.Errorf("%d lines in %d days:\n%s", len(lines), days, c.buffer)
				}
				if c.losses != n {
					t.Errorf("%d losses, want %d", c.losses, n)
				}
				connects := 0
				for i, line := range c.all() {
					if !strings.Contains(line, "msg=connected") {
						continue
					}
					if connects++; !strings.Contains(c.all()[i+1], "connection lost") {
						t.Errorf("it is not said that this was lost: %s", line)
					}
				}
				if tt.life < stableLife && connects > freeRepeats {
					t.Errorf("%d lines tell of connections that did not hold", connects)
				}
				if len(c.buffer.lines("again and again")) != 1 {
					t.Errorf("it is not said that there are pauses:\n%s", c.buffer)
				}
				// One that holds is told of, with how many did not.
				before := len(c.all())
				c.lives(forgetAfter + time.Second)
				lines := c.all()[before:]
				if len(lines) != 2 || !strings.Contains(lines[0], "msg=connected") || !strings.Contains(lines[0], fmt.Sprintf("losses=%d since=2000-01-01T", n)) ||
					!strings.Contains(lines[1], `msg="connection lost"`) || strings.Contains(lines[1], "losses=") {
					t.Errorf("%d losses, then: %q", n, lines)
				}
			})
		})
	}
}

// Causes that alternate, and those that are never the same, do not fill the log
// either; one that stays is told again each day.
func TestCausesThatAlternateDoNotFillTheLog(t *testing.T) {
	for name, tt := range map[string]struct {
		fail        func(n int) error
		least, most int
	}{
		"one":       {func(int) error { return syscall.ECONNREFUSED }, 3, 3},
		"two":       {func(n int) error { return []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH}[n%2] }, 8, 40},
		"a hundred": {func(n int) error { return fmt.Errorf("number %d", n%100) }, maxCauses, 60},
		"endless":   {func(n int) error { return fmt.Errorf("number %d", n) }, maxCauses, 60},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newLogged()
				const days = 3
				for range int(days * 24 * time.Hour / (30 * time.Second)) {
					c.failed(tt.fail(c.attempts))
					time.Sleep(30 * time.Second)
				}
				if n := len(c.all()); n < tt.least || n > tt.most {
					t.Errorf("%d lines of %d attempts:\n%s", n, c.attempts, c.buffer)
				}
				c.lives(forgetAfter + time.Second)
				before := len(c.all())
				for i := range maxFresh {
					c.failed(fmt.Errorf("other %d", i))
				}
				if n := len(c.all()) - before; n != maxFresh {
					t.Errorf("after an hour that was well, %d lines of %d causes", n, maxFresh)
				}
			})
		})
	}
}

// Whatever the other side sends, an hour has few lines; the last says that there were
// more causes, and where the last one is.
func TestCausesThatTheOtherSideMakesUpAreFewLinesAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLogged()
		for n := range 3600 {
			c.failed(fmt.Errorf("number %d", n))
			time.Sleep(time.Second - time.Millisecond)
		}
		lines := c.all()
		if len(lines) != maxFresh+1 || !strings.Contains(lines[maxFresh], "other_causes=1 ") || !strings.Contains(lines[maxFresh], "/status") {
			t.Errorf("%d lines:\n%s", len(lines), c.buffer)
		}
		time.Sleep(time.Minute)
		c.failed(errors.New("new"))
		if lines := c.all(); !strings.Contains(lines[len(lines)-1], "err=new") {
			t.Errorf("an hour later: %s", lines[len(lines)-1])
		}
	})
}

// What happens now and then is told each time: a broker that is restarted is a line
// for its end, one for each cause while it is away, and one when it is back.
func TestABrokerThatIsRestartedNowAndThenIsToldEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLogged()
		const restarts = 10
		for range restarts {
			c.lives(forgetAfter + time.Minute)
			for range 20 {
				time.Sleep(3 * time.Second)
				c.failed(syscall.ECONNREFUSED)
			}
		}
		lines := c.all()
		if len(lines) != 3*restarts {
			t.Fatalf("%d lines:\n%s", len(lines), c.buffer)
		}
		for i, line := range lines {
			want := []string{"msg=connected", `msg="connection lost"`, "cannot connect"}[i%3]
			if !strings.Contains(line, want) || strings.Contains(line, "attempts=21") != (i > 0 && i%3 == 0) {
				t.Errorf("line %d: %s", i+1, line)
			}
		}
	})
}

// While it is connected, and will hardly stay so, that is to be seen.
func TestAConnectionThatWasLostOftenIsUnsteadyUntilItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		const losses = 20
		for n := range losses {
			p := b.greet(true, 0)
			synctest.Wait()
			if got := c.State().Unsteady; got != (n >= unsteady) {
				t.Errorf("after %d losses: unsteady %v", n, got)
			}
			kill := time.AfterFunc(time.Second, func() { _ = p.Close() })
			p.obey(nil)
			kill.Stop()
		}
		p := b.greet(true, 0)
		go p.obey(nil)
		synctest.Wait()
		if n := len(c.log.lines("")); n > 12 {
			t.Errorf("%d lines:\n%s", n, c.log)
		}
		if state := c.State(); !state.Unsteady || state.Losses != losses || state.LastLoss == "" || state.LastErr != "" {
			t.Errorf("%+v", state)
		}
		time.Sleep(steady)
		if state := c.State(); state.Unsteady || !state.Connected || state.Losses != losses {
			t.Errorf("%+v", state)
		}
		time.Sleep(forgetAfter)
		synctest.Wait()
		if state := c.State(); state.Losses != 0 || state.LastLoss != "" {
			t.Errorf("%+v", state)
		}
		if last := c.log.lines("")[len(c.log.lines(""))-1]; !strings.Contains(last, "msg=connected") || !strings.Contains(last, "losses=20") {
			t.Errorf("the last line is %s", last)
		}
	})
}

// What the broker does not answer on any connection is not told for each.
func TestWhatIsNeverAnsweredDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Status: &Status{"s"}, Subscriptions: manyFilters(3)}, b.use)
		for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); {
			p := b.greet(false, 0)
			over := time.AfterFunc(10*time.Minute, func() { _ = p.Close() })
			for range p.in { // and answers nothing
			}
			over.Stop()
		}
		synctest.Wait()
		for _, text := range []string{"no answer to SUBSCRIBE", "status not published"} {
			if len(c.log.lines(text)) == 0 {
				t.Errorf("nothing is said of %s", text)
			}
		}
		if n := len(c.log.lines("")); n > 40 {
			t.Errorf("%d lines:\n%s", n, c.log)
		}
	})
}
