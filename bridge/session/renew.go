package session

import (
	"context"
	"time"
)

// Passwords that end by themselves, as tokens do. Most brokers close the connection then, which looks
// like any other fault. So the session logs in anew before: it asks for the next password while the
// connection is well, and leaves that when it has another one.

const (
	// minRenew is the least time between two logins for that.
	minRenew = time.Second
	// askAgain is when the next password is asked for again, where there was none yet; each time
	// after twice as long, up to askRarely.
	askAgain  = 10 * time.Second
	askRarely = 5 * time.Minute
)

// A login is what was logged in with last.
type login struct {
	password string
	renew    time.Time // when to ask for the next one; zero: it is not known to end
	next     string    // it was got before it was needed; "": it was not
}

// loggedIn notes the password that a connection logs in with.
func (s *Session) loggedIn(password string) {
	s.login.next = ""
	if password == s.login.password {
		return // its time goes on
	}
	s.login = login{password: password}
	if s.o.Lifetime == nil || password == "" {
		return
	}
	if life := s.o.Lifetime(password); life > 0 {
		s.login.renew = time.Now().Add(max(life-life/10, minRenew))
	}
}

// A renewal asks for the next password while a connection is in use.
type renewal struct {
	due  <-chan time.Time // nil: never
	came chan func() (string, error)
	wait time.Duration // until it is asked for again
	told bool          // that there is none
}

func (s *Session) newRenewal() (r renewal) {
	if !s.login.renew.IsZero() {
		r.due, r.came = time.After(max(time.Until(s.login.renew), minRenew)), make(chan func() (string, error), 1)
	}
	return r
}

// ask asks for it beside the connection: a command may take its time.
func (r *renewal) ask(s *Session) {
	r.due = nil
	go func(came chan func() (string, error)) {
		password, err := s.askPassword()
		came <- func() (string, error) { return password, err }
	}(r.came)
}

// take reports whether there is another password than the one in use. If not it is asked for again:
// until the broker ends the connection, this one may be good.
func (r *renewal) take(s *Session, password string, err error) bool {
	if err == nil && password != s.login.password {
		s.login.next = password
		return true
	}
	if err != nil && !r.told {
		r.told = true
		s.log.Warn("there is no new password yet; the connection goes on with the old one, as long as the broker lets it", "err", err)
	}
	r.wait = min(max(2*r.wait, askAgain), askRarely)
	r.due = time.After(r.wait)
	return false
}

// leaveFor ends a connection in good order, for a reason of ours. Should the next one come to nothing, it is
// known that we are away.
func (s *Session) leaveFor(conn *connection, reason error) {
	said := s.sayOffline(conn)
	conn.mqtt.leftFor.Store(&reason)
	if said {
		conn.mqtt.disconnect()
	}
	_ = conn.mqtt.fail(reason)
}

// password is what to log in with. It may come from a command that takes its time: the end does not
// wait for it.
func (s *Session) password(ctx context.Context) (string, error) {
	if next := s.login.next; next != "" {
		return next, nil
	}
	if s.o.Password == nil {
		return "", nil
	}
	said := make(chan func() (string, error), 1)
	go func() {
		password, err := s.askPassword()
		said <- func() (string, error) { return password, err }
	}()
	select {
	case is := <-said:
		return is()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
