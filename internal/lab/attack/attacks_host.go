//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"topicast/internal/lab/netlab"
)

// What a host does to it that is short of something, or an administrator in a hurry.
var hostAttacks = []attack{
	{name: "files-64", about: "a limit of 64 descriptors, until it is raised by a restart", victims: allStreams, hostile: true, prepare: fewFiles(64, ""), run: raiseFiles},
	{name: "files-1024", about: "a limit of 1,024 descriptors with 4,000 groups, until it is raised by a restart", victims: allStreams, hostile: true, prepare: fewFiles(1024, "239.60.0.0-239.60.15.159:6000"), run: raiseFiles},
	{name: "source-moves", about: "the source of a rule moves to another interface and back, each second, just after another address came or went", victims: toVictimBoth, lossless: true, prepare: followsSource, run: sourceMoves},
	{name: "addresses", about: "200 addresses a second come to a rule's interface and go, 250 at a time", victims: toVictimBoth, leastVictims: leastCarried, lossless: true, run: addressesFlap},
	{name: "password-fifo", about: "a FIFO that nobody writes to in place of the broker's password; a reload and a restart meanwhile", victims: allStreams, hostile: true, prepare: passwordIsFIFO, run: waitForPassword},
	{name: "config-two-parts", about: "the configuration written in place, in two parts 1.5 s apart", victims: allStreams, leastVictims: leastCarried, lossless: true, run: configInTwoParts},
	{name: "config-storm", about: "the configuration replaced 20 times a second", victims: allStreams, leastVictims: leastCarried, lossless: true, run: configStorm},
	{name: "config-odd", about: "ten files that are no configuration in its place, one after the other: long, deep, of many values, of 32,000 rules", victims: allStreams, leastVictims: leastCarried, lossless: true, run: configOdd},
}

func fewFiles(n int, groups string) func(*rig) {
	return func(r *rig) {
		r.setup.files = n
		if groups != "" {
			r.setup.receive = append(r.setup.receive, "name: many, group: '"+groups+"', interface: iso0, topic: 'm/{group}'")
			r.GW.ManyMemberships()
		}
	}
}

// raiseFiles lets it run short of descriptors, and raises the limit as an operator does:
// in the unit, which takes a restart. Its page has to answer before.
func raiseFiles(r *rig) {
	for _, s := range r.streams {
		s.forget()
	}
	r.pause(2 * r.times.attack)
	for _, s := range r.streams {
		s.rest(true)
	}
	r.pause(prompt)
	r.stopBridge()
	for _, s := range r.streams {
		s.forget()
	}
	r.setup.files = 0
	r.startAgain()
	r.until(r.times.heal, func() bool { return r.whole() == nil })
	for _, s := range r.streams {
		s.rest(false)
	}
}

// configInTwoParts writes as an editor does that knows no rename.
func configInTwoParts(r *rig) {
	whole := []byte(r.config())
	// What there is of the rules between is no longer a file without faults, nor one with
	// fewer rules: half of a list is a list.
	half := bytes.LastIndexByte(whole[:len(whole)*2/3], '\n') + 1
	f, err := os.OpenFile(r.file("topicast.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		r.must(err)
		return
	}
	defer f.Close()
	_, err = f.Write(whole[:half])
	r.must(err)
	r.pause(1500 * time.Millisecond)
	_, err = f.Write(whole[half:])
	r.must(err)
	r.spend(cost{Bytes: len(whole)})
	r.last()
}

func configStorm(r *rig) {
	whole := r.config()
	r.pace(20, 0, func(i int) error {
		name := r.file("next.yaml")
		if err := os.WriteFile(name, fmt.Appendf(nil, "%s# %d\n", whole, i), 0o600); err != nil {
			return err
		}
		r.spend(cost{Bytes: len(whole)})
		return os.Rename(name, r.file("topicast.yaml"))
	})
}

// addressesFlap is what a host sees whose network hands out many addresses, or that has one for
// each of its containers.
func addressesFlap(r *rig) {
	const most = 250
	there := map[string]bool{}
	address := func(i int) string { return fmt.Sprintf("192.0.2.%d/32", 1+i%most) }
	r.pace(200, 0, func(i int) error {
		if i/most%2 == 0 {
			r.GW.Addr(iso0, address(i))
			there[address(i)] = true
		} else {
			r.GW.DelAddr(iso0, address(i))
			delete(there, address(i))
		}
		return nil
	})
	for a := range there {
		r.GW.DelAddr(iso0, a)
	}
}

// followsSource has no bystanders: they send by these interfaces with whatever source those
// have, and would say each time that it is gone.
func followsSource(r *rig) {
	r.setup.follows, r.setup.rules = true, 0
	// What the source sends is of no network of dev2's.
	r.Dev2.Sysctl("net.ipv4.conf.all.rp_filter", "0")
	r.Dev2.Sysctl("net.ipv4.conf.eth0.rp_filter", "0")
}

// sourceMoves has the devices of both interfaces note what comes where. A datagram that was
// made after its source had gone from an interface, and came by it before the source was
// back there, left from an address that this interface had not.
func sourceMoves(r *rig) {
	type arrival struct {
		by     *netlab.Host
		number int
		at     time.Time
	}
	var mu sync.Mutex
	var arrivals []arrival
	s := r.streams[victimSend]
	r.mu.Lock()
	r.heard = func(by *netlab.Host, d netlab.Received, now time.Time) {
		if n, ok := s.number(d.Payload); ok {
			mu.Lock()
			defer mu.Unlock()
			arrivals = append(arrivals, arrival{by, n, now})
		}
	}
	r.mu.Unlock()
	r.devices = append(r.devices, r.Dev2.Listener("eth0", func(d netlab.Received) { r.hear(r.Dev2, victimSend, d) }, groups[victimSend]))
	r.streams[victimReceive].rest(true)
	r.pause(100 * time.Millisecond)

	const prefix, other = "172.17.0.1/16", "192.0.2.9/32"
	away := map[*netlab.Host][][2]time.Time{} // when the source was not on the interface whose cable leads to the host
	far := map[string]*netlab.Host{iso0: r.Dev, iso1: r.Dev2}
	since := map[string]time.Time{iso1: time.Now()}
	here, there := iso0, iso1
	for i := 0; time.Since(r.began) < r.times.attack && r.ctx.Err() == nil || here != iso0; i++ {
		if i%2 == 0 {
			r.GW.Addr(priv0, other)
		} else {
			r.GW.DelAddr(priv0, other)
		}
		r.pause(12 * time.Millisecond)
		r.GW.DelAddr(here, prefix)
		since[here] = time.Now()
		away[far[there]] = append(away[far[there]], [2]time.Time{since[there], time.Now()})
		r.GW.Addr(there, prefix)
		here, there = there, here
		r.pause(time.Second)
	}
	r.awaitState(victimSend, "up", mostHeal)
	r.awaitState(victimReceive, "up", mostHeal)
	r.streams[victimReceive].rest(false)
	r.mu.Lock()
	r.heard = nil
	r.mu.Unlock()
	mu.Lock()
	defer mu.Unlock()
	wrong, by := 0, map[*netlab.Host]int{}
	for _, a := range arrivals {
		by[a.by]++
		made := s.madeAt(a.number)
		for _, span := range away[a.by] {
			if made.After(span[0]) && a.at.Before(span[1]) {
				wrong++
			}
		}
	}
	r.addNote("%d by one interface, %d by the other", by[r.Dev], by[r.Dev2])
	if wrong > 0 {
		r.fail("%d datagrams left by an interface that their source had gone from before they were made", wrong)
	}
	if by[r.Dev2] == 0 {
		r.fail("nothing left by the interface that the source moved to")
	}
}

func passwordIsFIFO(r *rig) {
	r.setup.broker = "username: gateway, password_file: " + r.file("password")
	r.must(syscall.Mkfifo(r.file("password"), 0o600))
}

// waitForPassword lets it wait, has it take a configuration, end, and start again meanwhile.
// The password comes at last.
func waitForPassword(r *rig) {
	for _, s := range r.streams {
		s.rest(true)
	}
	r.pause(r.times.attack / 2)
	name := r.file("next.yaml")
	r.must(errors.Join(os.WriteFile(name, fmt.Appendf(nil, "%s# another\n", r.config()), 0o600), os.Rename(name, r.file("topicast.yaml")), r.bridge.Process.Signal(syscall.SIGHUP)))
	if !r.until(mostHeal, func() bool { st, err := r.status(victimSend); return err == nil && st.Reload.At.After(r.began) }) {
		r.fail("the configuration is not read again within %v", mostHeal)
	}
	began := time.Now()
	r.stopBridge()
	r.addNote("it ended within %.1f s", time.Since(began).Seconds())
	if took := time.Since(began); took > mostEnd {
		r.fail("it ended after %.1f s", took.Seconds())
	}
	r.startAgain()
	r.pause(r.times.attack / 2)
	for _, s := range r.streams {
		s.forget()
	}
	next := r.file("password-next")
	r.must(errors.Join(os.WriteFile(next, []byte("secret\n"), 0o600), os.Rename(next, r.file("password"))))
	// What is published before the first SUBSCRIBE is nobody's.
	came := time.Now()
	if !r.until(mostHeal, func() bool { return r.whole() == nil }) {
		r.fail("the password is not read within %v", mostHeal)
	}
	r.addNote("ready %.1f s after the password came", time.Since(came).Seconds())
	for _, s := range r.streams {
		s.rest(false)
	}
}

// mostEnd is what docs/bounds.md says of the end.
const mostEnd = 10 * time.Second
