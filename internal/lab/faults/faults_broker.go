//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
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
	{name: "subscription-limit", about: "broker that closes the connection over 8 filters a packet or 50 in all", ways: sendOnly, prepare: fewSubscriptions, run: subscriptionsBeyond},
	{name: "same-client-id", about: "kicked by the same client id", ways: sendOnly, prepare: deepQueue, run: kickedByAnother},
	{name: "certificate-renewed", about: "TLS authority and certificates renewed on disk", ways: sendOnly, prepare: withCertificates, run: certificatesRenewed},
	{name: "password-changed", about: "password changed", ways: sendOnly, prepare: withPassword, run: passwordChanged},
}

func deepQueue(r *rig)   { r.broker.deep = true }
func eagerBroker(r *rig) { r.broker.deep, r.broker.eager = true, true }

func brokerRestarted(r *rig) {
	r.stopBroker()
	r.hold()
	r.restartBroker()
}

func brokerKilled(r *rig) {
	r.saveBroker()
	for range r.times.kills {
		r.pause(atRandom())
		r.mosquitto.Kill()
		r.restartBroker()
		r.awaitRecovery()
		r.caughtUp()
	}
	r.addNote("%d times", r.times.kills)
}

// caughtUp waits until little is still on its way: what mosquitto has
// in memory is lost with it, and that is not topicast's loss.
func (r *rig) caughtUp() {
	r.until(r.times.heal, func() bool {
		for name, c := range r.counts {
			if sent := r.feed.next(name); sent-c.within([]span{{0, sent}}) > fewOnTheWay {
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

func brokerStalls(r *rig) {
	r.signal(r.mosquitto.Process, syscall.SIGSTOP)
	r.pause(r.times.stall)
	r.signal(r.mosquitto.Process, syscall.SIGCONT)
	r.addNote("for %v, with a keep-alive of %v", r.times.stall, keepAlive)
}

func brokerUnreachable(r *rig) {
	began := time.Now()
	r.Lan.Down("eth0")
	gone := func(st status) error {
		if st.Broker.Connected {
			return errors.New("it still counts as connected")
		}
		return nil
	}
	// The reference configuration says about one and a half keep-alives; a little
	// more is no failure.
	if err := r.awaitStatus(5*keepAlive/2, gone); err != nil {
		r.fail("the dead connection is not noticed %v", err)
	} else {
		r.addNote("noticed after %.1f s, with a keep-alive of %v", time.Since(began).Seconds(), keepAlive)
	}
	r.hold()
	r.Lan.Up("eth0")
}

func brokerGone(r *rig) {
	before := r.memory()
	r.stopBroker()
	r.pause(r.times.down)
	during := r.memory()
	r.restartBroker()
	r.awaitRecovery()
	r.addNote("for %v; resident %.1f MB before, %.1f MB at its end", r.times.down, before, during)
	if most := 16.0; during-before > most {
		r.fail("it grew by more than %v MB", most)
	}
}

func oneRefused(r *rig) {
	r.broker.deep, r.broker.refuse = true, "refused/#"
	r.rules.more = fmt.Sprintf("  - { name: b, filter: 'refused/#', group: '%v', source: 172.18.0.1 }\n", groupB)
	// The rule is up only later.
	r.rules.absent = true
	r.writeRoles(r.broker.refuse)
}

func subscriptionGranted(r *rig) {
	refused := func(want int) func(status) error {
		return func(st status) error {
			if len(st.Broker.Refused) != want {
				return fmt.Errorf("refused are %v", st.Broker.Refused)
			}
			return connected(st)
		}
	}
	r.expectStatus(r.times.heal, refused(1))
	r.expectLog("refuses subscriptions")
	r.hold()
	r.writeRoles("nothing")
	r.stopBroker()
	r.restartBroker()
	r.awaitRecovery()
	r.expectStatus(r.times.heal, refused(0))
}

func fewSubscriptions(r *rig) {
	deepQueue(r)
	r.broker.limits = &limiter{inPacket: 8, inAll: 50}
}

// subscriptionsBeyond has more filters than the broker takes, none of which a wildcard
// covers. It waits until the connection lasts, with as many as there may be, and then
// to see that it does.
func subscriptionsBeyond(r *rig) {
	for i := range 60 {
		r.rules.more += fmt.Sprintf("  - { name: b%d, filter: 'g/%d/set', group: '%v', source: 172.18.0.1, interface: %s }\n", i, i, groupB, iso1)
	}
	r.reload()
	r.awaitRules(61)
	began, limits := time.Now(), r.broker.limits
	settled := func(st status) error {
		if got := st.Broker.Subscriptions; got != limits.inAll {
			return fmt.Errorf("%d filters are granted, after %d connections", got, st.Broker.Connects)
		}
		return connected(st)
	}
	r.expectStatus(4*r.times.heal, settled)
	took, closed := time.Since(began), limits.closed.Load()
	r.pause(r.times.stall)
	if n := limits.closed.Load() - closed; n > 0 {
		r.fail("with all %d filters it was thrown out %d times more in %v", limits.inAll, n, r.times.stall)
	}
	r.expectStatus(r.times.heal, settled)
	const named = "the broker limits the subscriptions"
	r.expectLog(fmt.Sprintf("limit=%d", limits.inAll))
	if n := strings.Count(r.bridge.Output(), named); n != 1 {
		r.fail("the log has %d times that %s", n, named)
	}
	r.addNote("settled after %.1f s and %d closed connections", took.Seconds(), closed)
}

func kickedByAnother(r *rig) {
	const enough = 5 // 3 in a row are to be told from chance
	kicks := 0
	for ; kicks < enough && !r.logged("another client uses client_id"); kicks++ {
		// A second client that was itself thrown out reconnects after a moment.
		r.pause(500 * time.Millisecond)
		if err := r.awaitStatus(r.times.heal, connected); err != nil {
			r.fail("%v", err)
			break
		}
		if err := kick(r.ctx, r.connectFront, gatewayID); err != nil {
			r.fail("the second client: %v", err)
			break
		}
	}
	r.awaitRecovery()
	r.expectLog("another client uses client_id")
	r.addNote("%d times", kicks)
}

func withCertificates(r *rig) {
	r.broker.deep, r.broker.tls = true, true
	r.makeCertificates()
}

func certificatesRenewed(r *rig) {
	r.makeCertificates()
	r.stopBroker()
	r.restartBroker()
}

func withPassword(r *rig) {
	r.broker.deep, r.broker.password = true, true
	r.setPassword("first", true)
}

func passwordChanged(r *rig) {
	r.setPassword("second", false)
	r.stopBroker()
	r.restartBroker()
	r.hold()
	r.write("password", "second\n")
}

func (r *rig) signal(p *os.Process, sig syscall.Signal) {
	if err := p.Signal(sig); err != nil {
		r.fail("%v: %v", sig, err)
	}
}
