//go:build linux

package main

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"topicast/internal/lab/netlab"
)

// What any host on the network of a rule can do.
var datagramAttacks = []attack{
	{name: "one-byte", about: "405 forged datagrams of the same byte in four seconds", victims: toVictim, leastVictims: leastCarried, run: oneByte},
	{name: "one-byte-flood", about: "the same, 10,000 a second", victims: toVictim, run: oneByteFlood},
	{name: "flood", about: "forged datagrams that all differ, 10,000 a second", victims: toVictim, run: flood},
	{name: "large-flood", about: "the same of 1,400 bytes", victims: toVictim, run: largeFlood},
	{name: "senders-change", about: "100,000 forged senders at a rule with on_change and topics by sender", victims: toVictim, prepare: onChange, run: sendersChange},
	{name: "senders-every", about: "100,000 forged senders at a rule with every: 1h and topics by sender", prepare: everyHour, run: sendersEvery, release: restart},
	{name: "senders-values", about: "60,000 forged senders with 1,000 bytes each at the same rule, while another interface flaps", prepare: everyHour, run: valuesAndFlaps, release: restart},
	{name: "senders-groups", about: "1,000 forged senders at each of 1,000 groups", prepare: thousandGroups, run: sendersOfGroups},
	{name: "echo", about: "alarms forged from 20 senders before they come, on a cycle of rules", victims: toVictim, leastVictims: leastCarried, prepare: onCycle, run: forgedEchoes},
	{name: "reputation", about: "the same while thousands of forged senders speak", victims: toVictim, leastVictims: leastCarried, prepare: onCycle, run: forgedReputations},
	{name: "guard-same", about: "one datagram from 10,000 forged senders on a cycle of rules, 10,000 a second", victims: toVictim, prepare: onCycle, run: sameOfMany},
	{name: "unicast", about: "datagrams to the ports of the rules and of the senders, to no group, 10,000 a second", victims: toVictimBoth, leastVictims: leastCarried, run: unicast},
	{name: "fragments", about: "first fragments of datagrams whose others never come, to the rule's group, 10,000 a second", victims: toVictim, leastVictims: leastCarried, run: fragments},
	{name: "igmp", about: "IGMP queries of versions 1 to 3, 5,000 a second", victims: toVictimBoth, leastVictims: leastCarried, run: igmp},
	{name: "mld", about: "MLD queries of versions 1 and 2, 5,000 a second", victims: toVictimBoth, leastVictims: leastCarried, prepare: memberOverIPv6, run: mld},
	{name: "neighbours", about: "router advertisements of ever other networks, and neighbour solicitations, 5,000 a second", victims: toVictimBoth, leastVictims: leastCarried, prepare: overIPv6, run: neighbours},
	{name: "ndisc-flood", about: "neighbour solicitations of ever other hosts, 5,000 a second, until the kernel's table of neighbours is full", victims: toSend, lossless: true, alone: true, prepare: overIPv6, run: fillNeighbours},
}

var (
	toVictim     = []string{victimReceive}
	toVictimBoth = []string{victimReceive, victimSend}
)

// someSender is a host that is not there. The first that is given by number is 0; each
// has an address of the network, and from 60,000 on another port.
func someSender(n int) netip.AddrPort {
	a := [4]byte{172, 17, 0, 0}
	binary.BigEndian.PutUint16(a[2:], uint16(1000+n%60000))
	return netip.AddrPortFrom(netip.AddrFrom4(a), uint16(20000+n/60000))
}

// forge sends forged datagrams to the victim's group, so many a second.
func (r *rig) forge(perSecond, most int, from func(i int) netip.AddrPort, payload func(i int) []byte) {
	f, to := r.forger(), groups[victimReceive]
	r.pace(perSecond, most, func(i int) error {
		b := payload(i)
		r.spend(cost{Datagrams: 1, Bytes: len(b)})
		r.streams[victimReceive].offer(1)
		return f.UDP(from(i), to, b)
	})
}

func (r *rig) forger() *netlab.Forger { return r.Dev.Forger("eth0") }

func one(n int) func(int) netip.AddrPort { return func(int) netip.AddrPort { return someSender(n) } }

// anew is a payload of its own for each datagram.
func anew(size int) func(int) []byte {
	return func(i int) []byte {
		b := make([]byte, max(size, 8))
		binary.BigEndian.PutUint64(b, uint64(i)+1)
		return b
	}
}

func oneByte(r *rig) {
	r.forge(101, 405, one(0), func(int) []byte { return []byte{7} })
	r.last()
}

func oneByteFlood(r *rig) { r.forge(10000, 0, one(0), func(int) []byte { return []byte{7} }) }
func flood(r *rig)        { r.forge(10000, 0, one(0), anew(32)) }
func largeFlood(r *rig)   { r.forge(10000, 0, one(0), anew(1400)) }

// onChange gives each sender a topic of its own, and remembers the last payload of each.
func onChange(r *rig) {
	r.setup.topic[victimReceive] = "r/v/{source}/{source_port}"
	r.setup.extra[victimReceive] = "on_change: true"
}

func sendersChange(r *rig) {
	r.forge(20000, r.many(100000), someSender, anew(8))
	r.last()
}

// everyGroup is the group of a rule whose messages wait for an hour.
var everyGroup = netip.MustParseAddrPort("239.2.2.3:6000")

func everyHour(r *rig) {
	r.setup.receive = append(r.setup.receive, "name: every, group: '"+everyGroup.String()+"', interface: iso0, topic: 'e/{source}/{source_port}', every: 1h")
	r.watch("every", "e/", netip.AddrPort{})
}

// restart has what waits for its time come out, as it does when topicast ends, and what the
// broker did not take by then with the next start.
func restart(r *rig) {
	r.stopBridge()
	r.startAgain()
	r.until(r.times.heal, func() bool { return r.whole() == nil })
}

func sendersEvery(r *rig) { r.twoOfEach(r.many(100000), 8) }

// twoOfEach sends two datagrams of each sender: the second waits for the hour to pass.
func (r *rig) twoOfEach(senders, size int) {
	f, payload := r.forger(), anew(size)
	r.pace(20000, 2*senders, func(i int) error {
		r.spend(cost{Datagrams: 1, Bytes: size})
		r.others["every"].offer(1)
		return f.UDP(someSender(i/2), everyGroup, payload(i))
	})
	r.last()
}

// valuesAndFlaps fills what there is for what waits, while the neighbour's messages need
// some of it.
func valuesAndFlaps(r *rig) {
	r.twoOfEach(r.many(60000), 1000)
	r.unplug(iso1, neighbourReceive)
	r.pause(prompt / 2)
	r.GW.PushCable(iso1)
	r.awaitState(neighbourSend, "up", mostHeal)
	r.awaitState(neighbourReceive, "up", mostHeal)
	r.streams[neighbourReceive].rest(false)
}

// thousandGroups has one rule for a thousand groups, whose senders have topics of their own.
func thousandGroups(r *rig) {
	r.setup.receive = append(r.setup.receive, "name: many, group: '239.40.0.0-239.40.3.231:6000', interface: iso0, topic: 'm/{group}/{source}'")
	// A subscriber to all of it would have mosquitto take less than what is sent.
	r.watch("many", "m/239.40.1.7/", netip.AddrPort{})
	r.GW.ManyMemberships()
}

func sendersOfGroups(r *rig) {
	f := r.forger()
	n := r.many(1000)
	payload := anew(8)
	r.pace(25000, n*1000, func(i int) error {
		g := i % 1000
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 40, byte(g / 256), byte(g)}), 6000)
		b := payload(i)
		r.spend(cost{Datagrams: 1, Bytes: len(b)})
		if to.Addr().As4()[2] == 1 && to.Addr().As4()[3] == 7 {
			r.others["many"].offer(1)
		}
		return f.UDP(someSender(i/1000), to, b)
	})
}

// onCycle has what the victim's rule receives go back to the network, and from there to
// the rule's topics: the loop guard watches all of it.
func onCycle(r *rig) {
	r.setup.topic[victimReceive] = "r/v/{source}"
	r.setup.send = append(r.setup.send, "name: back, filter: 'r/v/#', group: '239.2.2.9:6000', interface: iso0")
	r.setup.receive = append(r.setup.receive, "name: forth, group: '239.2.2.9:6000', interface: iso0, topic: 'r/v/again'")
}

// forgedEchoes says what the device will say before it does, ten times a second.
func forgedEchoes(r *rig) {
	honestly, err := talk(r.Dev, device)
	if err != nil {
		r.must(err)
		return
	}
	defer honestly.Close()
	f, s := r.forger(), r.streams[victimReceive]
	r.pace(10, 0, func(i int) error {
		alarm := s.next(time.Now())
		for n := range 20 {
			r.spend(cost{Datagrams: 1, Bytes: len(alarm)})
			s.offer(1)
			if err := f.UDP(someSender(i*20+n), groups[victimReceive], alarm); err != nil {
				return err
			}
		}
		return say(honestly, groups[victimReceive], alarm)
	})
}

func forgedReputations(r *rig) {
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() { r.forge(5000, 0, someSender, anew(8)) })
	forgedEchoes(r)
}

func sameOfMany(r *rig) {
	from := func(i int) netip.AddrPort { return someSender(i % 10000) }
	r.forge(10000, 0, from, func(int) []byte { return []byte("again") })
}

// unicast sends to the gateway's address what no group is to hear.
func unicast(r *rig) {
	f := r.forger()
	r.mu.Lock()
	ports := []uint16{groups[victimReceive].Port(), r.sources[victimSend].Port()}
	r.mu.Unlock()
	payload := anew(64)
	r.pace(10000, 0, func(i int) error {
		b := payload(i)
		r.spend(cost{Datagrams: 1, Bytes: len(b)})
		return f.UDP(someSender(i%1000), netip.AddrPortFrom(gateway, ports[i%2]), b)
	})
}

// igmp asks who listens, in the name of all versions of the protocol (RFC 3376, 4.1, 7.1).
func igmp(r *rig) {
	f := r.forger()
	all := netip.MustParseAddr("224.0.0.1")
	versions := [][]byte{{0x11, 0, 0, 0, 0, 0, 0, 0}, {0x11, 1, 0, 0, 0, 0, 0, 0}, {0x11, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}}
	r.pace(5000, 0, func(i int) error {
		m := slices.Clone(versions[i%len(versions)])
		r.spend(cost{Datagrams: 1, Bytes: len(m)})
		return f.IGMP(someSender(i%1000).Addr(), all, m)
	})
}

// fragments fills what the kernel has for datagrams that are not whole; the devices' are.
func fragments(r *rig) {
	f, payload := r.forger(), anew(1000)
	r.pace(10000, 0, func(i int) error {
		b := payload(i)
		r.spend(cost{Datagrams: 1, Bytes: len(b)})
		return f.FirstFragment(someSender(i), groups[victimReceive], uint16(i)|1, b)
	})
}

// memberOverIPv6 has a membership that MLD asks for, and the victim send over IPv6.
func memberOverIPv6(r *rig) {
	overIPv6(r)
	r.setup.receive = append(r.setup.receive, "name: six, group: '[ff15::2]:6000', interface: iso0, topic: 'six'")
}

// linkLocal is a router or host that is not there, by number.
func linkLocal(n int) netip.Addr {
	a := netip.MustParseAddr("fe80::1:0:0").As16()
	binary.BigEndian.PutUint32(a[12:], uint32(n)+1)
	return netip.AddrFrom16(a)
}

// mld asks who listens, in the name of both versions of the protocol (RFC 2710, 3; RFC 3810, 5.1).
func mld(r *rig) {
	f, all := r.forger(), netip.MustParseAddr("ff02::1")
	r.pace(5000, 0, func(i int) error {
		m := make([]byte, []int{24, 28}[i%2])
		m[0], m[5] = 130, 1
		r.spend(cost{Datagrams: 1, Bytes: len(m)})
		return f.MLD(linkLocal(i%1000), all, m)
	})
}

// fillNeighbours has the gateway's kernel remember more neighbours than it has room for, so
// that it has none for a group. Its frames take none: the table is one for all namespaces.
func fillNeighbours(r *rig) {
	f, station := r.forger(), r.GW.Station(iso0)
	r.pace(5000, 0, func(i int) error {
		r.spend(cost{Datagrams: 1, Bytes: 32})
		return f.Solicit(linkLocal(i), gateway6, station)
	})
	r.pause(5 * time.Second) // the attack is over when the kernel may forget the last (neigh_forced_gc)
}

// neighbours gives the gateway addresses without end, as far as its kernel takes them, and
// asks for those it has (RFC 4861, 4.2, 4.3, 4.6.2). It speaks for few: the neighbours that
// a kernel knows are bounded for all namespaces together, and so for other attacks.
func neighbours(r *rig) {
	const speakers = 16
	f, all := r.forger(), netip.MustParseAddr("ff02::1")
	solicitation := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, gateway6.AsSlice()...)
	r.pace(5000, 0, func(i int) error {
		if i%2 == 1 {
			r.spend(cost{Datagrams: 1, Bytes: len(solicitation)})
			return f.Neighbour(linkLocal(i%speakers), gateway6, slices.Clone(solicitation))
		}
		m := append([]byte{134, 0, 0, 0, 64, 0, 0x07, 0x08}, make([]byte, 8)...) // a router for 1800 s
		m = append(m, 3, 4, 64, 0xc0)                                            // a network of 64 bits, on this link, to take addresses of
		m = binary.BigEndian.AppendUint32(m, uint32(7300+i%1000))                // seconds that it is valid
		m = binary.BigEndian.AppendUint32(m, uint32(7300+i%1000))                // and preferred
		network := netip.MustParseAddr("fd99::").As16()
		binary.BigEndian.PutUint16(network[6:], uint16(i/2))
		m = append(append(m, 0, 0, 0, 0), network[:]...)
		r.spend(cost{Datagrams: 1, Bytes: len(m)})
		return f.Neighbour(linkLocal(i%speakers), all, m)
	})
}
