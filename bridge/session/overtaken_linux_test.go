package session

import (
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A process that is stopped finds, when it goes on, all that the broker wrote before
// it gave the session to another client.
func TestWhatTheBrokerGivesToAnotherIsNotHandedOn(t *testing.T) {
	for _, tt := range []struct {
		name  string
		clean bool
		late  bool // the reader is held until the messages are old
		want  []string
	}{
		{"persistent, late", false, true, []string{"first", "zero"}},
		{"persistent, at once", false, false, []string{"first", "one", "zero", "two"}},
		{"clean, late", true, true, []string{"first", "one", "zero", "two"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBroker(t)
			held, proceed := make(chan struct{}), make(chan struct{})
			first := true
			c := start(t, Options{URLs: []string{b.url()}, Clean: tt.clean, Handle: func([]Message) {
				if first {
					first = false
					close(held)
					<-proceed
				}
			}})
			p := b.greet(false, 0)
			c.reached("connected", connected)
			l := c.current.Load().mqtt
			p.send(publish(qos0, "first", 0, ""))
			<-held
			p.send(publish(qos1, "one", 1, ""), publish(qos0, "zero", 0, ""), publish(qos2, "two", 2, ""))
			if err := p.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var kernel peerState
			kernel.watch(l.conn)
			age := staleAfter
			if !tt.late {
				age, l.staleAfter = -time.Millisecond, time.Hour // however slow this machine is
			}
			for deadline := time.Now().Add(patience); !kernel.closedFor(age); runtime.Gosched() {
				if time.Now().After(deadline) {
					t.Fatal("the FIN does not arrive")
				}
			}
			close(proceed)
			c.reached("lost", func(s State) bool { return s.Connects == 1 && !s.Connected && s.LastErr != "" })
			var got []string
			for _, m := range c.messages(1) {
				got = append(got, string(m.Topic))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("handed on %q, want %q", got, tt.want)
			}
		})
	}
}

// What the broker wrote before it gave the session away can be more than the kernel
// takes: then its FIN is still behind that when the process goes on.
func TestWhatIsBehindAFullWindowIsNotHandedOn(t *testing.T) {
	for _, tt := range []struct {
		name   string
		closes bool // the broker, before the reader goes on
	}{
		{"the broker has closed", true},
		{"the broker waits for us", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBroker(t)
			b.mute = true // a PINGRESP would come in the midst of a packet
			held, proceed := make(chan struct{}), make(chan struct{})
			first := true
			c := start(t, Options{URLs: []string{b.url()}, Handle: func([]Message) {
				if first {
					first = false
					close(held)
					<-proceed
				}
			}})
			p := b.greet(false, 0)
			c.reached("connected", connected)
			p.send(publish(qos0, "first", 0, ""))
			<-held
			sent, part := 0, 0
			for sent < 1<<14 { // until there is no room, neither there nor here
				frame := publish(qos1, "late", uint16(sent+1), strings.Repeat("x", 10_000))
				if err := p.SetWriteDeadline(time.Now().Add(2 * staleAfter)); err != nil {
					t.Fatal(err)
				}
				n, err := p.Write(frame)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					part = n
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				sent++
			}
			if sent == 1<<14 {
				t.Fatal("there is always room")
			}
			if tt.closes {
				p.Close()
				close(proceed)
				c.reached("lost", func(s State) bool { return s.Connects == 1 && !s.Connected && s.LastErr != "" })
				if n := len(c.messages(1)); n != 1 {
					t.Errorf("%d messages handed on that are another client's", n-1)
				}
				return
			}
			close(proceed)
			if part > 0 {
				frame := publish(qos1, "late", uint16(sent+1), strings.Repeat("x", 10_000))
				if err := p.SetWriteDeadline(time.Time{}); err != nil {
					t.Fatal(err)
				}
				p.send(frame[part:])
				sent++
			}
			if n := len(c.messages(1 + sent)); n != 1+sent {
				t.Errorf("%d messages, want %d", n, 1+sent)
			}
			if s := c.State(); !s.Connected || s.Connects != 1 {
				t.Errorf("state %+v", s)
			}
		})
	}
}

func TestToAskForThePeerAllocatesNothing(t *testing.T) {
	b := newBroker(t)
	conn, err := net.Dial("tcp", b.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var r peerState
	r.watch(conn)
	if n := testing.AllocsPerRun(100, func() { r.closedFor(staleAfter) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
