//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

var brokerFaults = []fault{
	{name: "broker-restart", about: "broker restarted (SIGTERM)", ways: sendOnly, soak: true, prepare: deepQueue, run: brokerRestarted},
	{name: "broker-kill", about: "broker killed (SIGKILL), again and again", ways: sendOnly, prepare: eagerBroker, run: brokerKilled},
	{name: "broker-stall", about: "broker stands still, the connection open", ways: sendOnly, prepare: deepQueue, run: brokerStalls},
	{name: "broker-half-open", about: "broker's link down, the connection half-open", ways: sendOnly, prepare: deepQueue, run: brokerUnreachable},
	{name: "broker-gone", about: "broker away while datagrams come in", ways: receiveOnly, run: brokerGone},
	{name: "subscription-refused", about: "a subscription refused, then granted", ways: sendOnly, prepare: oneRefused, run: subscriptionGranted},
	{name: "same-client-id", about: "kicked by the same client id", ways: sendOnly, prepare: deepQueue, run: kickedByAnother},
	{name: "certificate-renewed", about: "TLS authority and certificates renewed on disk", ways: sendOnly, prepare: withCertificates, run: certificatesRenewed},
	{name: "password-changed", about: "password changed", ways: sendOnly, prepare: withPassword, run: passwordChanged},
}

func deepQueue(s *stage)   { s.broker.deep = true }
func eagerBroker(s *stage) { s.broker.deep, s.broker.eager = true, true }

func brokerRestarted(s *stage) {
	s.stopBroker()
	s.hold()
	s.restartBroker()
}

func brokerKilled(s *stage) {
	s.saveBroker()
	for range s.times.kills {
		s.pass(atRandom())
		s.mosquitto.Kill()
		s.restartBroker()
		s.over()
		s.caughtUp()
	}
	s.tell("%d times", s.times.kills)
}

// caughtUp waits until little is still on its way: mosquitto takes into its grave
// what it has in memory, and that is its loss.
func (s *stage) caughtUp() {
	s.until(s.times.heal, func() bool {
		for name, c := range s.counts {
			if said := s.feed.next(name); said-c.within([]span{{0, said}}) > fewOnTheWay {
				return false
			}
		}
		return true
	})
}

// fewOnTheWay is how many messages may be on their way at any time.
const fewOnTheWay = 200

// atRandom is how long until the next kill.
func atRandom() time.Duration { return 100*time.Millisecond + rand.N(900*time.Millisecond) }

func brokerStalls(s *stage) {
	s.signal(s.mosquitto.Process, syscall.SIGSTOP)
	s.pass(s.times.stall)
	s.signal(s.mosquitto.Process, syscall.SIGCONT)
	s.tell("for %v, with a keep-alive of %v", s.times.stall, keepAlive)
}

func brokerUnreachable(s *stage) {
	began := time.Now()
	s.Lan.Down("eth0")
	gone := func(st status) error {
		if st.Broker.Connected {
			return errors.New("it still counts as connected")
		}
		return nil
	}
	// The reference configuration says about one and a half keep-alives; a little
	// more is no failure.
	if err := s.awaitStatus(5*keepAlive/2, gone); err != nil {
		s.fail("the dead connection is not noticed %v", err)
	} else {
		s.tell("noticed after %.1f s, with a keep-alive of %v", time.Since(began).Seconds(), keepAlive)
	}
	s.hold()
	s.Lan.Up("eth0")
}

func brokerGone(s *stage) {
	before := s.memory()
	s.stopBroker()
	s.pass(s.times.down)
	during := s.memory()
	s.restartBroker()
	s.over()
	s.tell("for %v; resident %.1f MB before, %.1f MB at its end", s.times.down, before, during)
	if most := 16.0; during-before > most {
		s.fail("it grew by more than %v MB", most)
	}
}

func oneRefused(s *stage) {
	s.broker.deep, s.broker.refuse = true, "refused/#"
	s.rules.more = fmt.Sprintf("  - { name: b, filter: 'refused/#', group: '%v', source: 172.18.0.1 }\n", groupB)
	// The rule is up only later.
	s.rules.absent = true
	s.writeRoles(s.broker.refuse)
}

func subscriptionGranted(s *stage) {
	refused := func(want int) func(status) error {
		return func(st status) error {
			if len(st.Broker.Refused) != want {
				return fmt.Errorf("refused are %v", st.Broker.Refused)
			}
			return connected(st)
		}
	}
	if err := s.awaitStatus(s.times.heal, refused(1)); err != nil {
		s.fail("%v", err)
	}
	s.expectLog("refused")
	s.hold()
	s.writeRoles("nothing")
	s.stopBroker()
	s.restartBroker()
	s.over()
	if err := s.awaitStatus(s.times.heal, refused(0)); err != nil {
		s.fail("%v", err)
	}
}

func kickedByAnother(s *stage) {
	const enough = 5 // 3 in a row are to be told from chance
	kicks := 0
	for ; kicks < enough && !s.said("another client uses client_id"); kicks++ {
		// A twin that was itself thrown out comes back after a moment.
		s.pass(500 * time.Millisecond)
		if err := s.awaitStatus(s.times.heal, connected); err != nil {
			s.fail("%v", err)
			break
		}
		if err := steal(s.ctx, s.dialFront, gatewayID); err != nil {
			s.fail("the thief: %v", err)
			break
		}
	}
	s.over()
	s.expectLog("another client uses client_id")
	s.tell("%d times", kicks)
}

func withCertificates(s *stage) {
	s.broker.deep, s.broker.tls = true, true
	s.makeCertificates()
}

func certificatesRenewed(s *stage) {
	s.makeCertificates()
	s.stopBroker()
	s.restartBroker()
}

func withPassword(s *stage) {
	s.broker.deep, s.broker.password = true, true
	s.setPassword("first", true)
}

func passwordChanged(s *stage) {
	s.setPassword("second", false)
	s.stopBroker()
	s.restartBroker()
	s.hold()
	s.write("password", "second\n")
}

func (s *stage) signal(p *os.Process, sig syscall.Signal) {
	if err := p.Signal(sig); err != nil {
		s.fail("%v: %v", sig, err)
	}
}
