//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"topicast/internal/lab/harness"
)

// What anybody can do who may publish below a filter. What comes by the broker's one
// connection comes in its order, so that a message waits for those before it. Where these
// fill the connection, mosquitto reads a packet of it at each turn and no more, so that what
// is received stands behind the acknowledgements of them: it is everybody's connection.
var publisherAttacks = []attack{
	{name: "fan-out", about: "4,000 messages in a burst on a topic that 1,000 rules send", victims: bySession, prepare: thousandRules, run: fanOut},
	{name: "topics-long", about: "130,000 topics of 4,000 bytes", victims: toSend, run: publishTopics(130000, 4000)},
	{name: "topics-60k", about: "20,000 topics of 60,000 bytes", victims: allStreams, lossless: true, run: publishTopics(20000, 60000)},
	{name: "topics-no-rule", about: "topics that lead to no group, 5,000 a second", prepare: badGroups, run: noGroups},
	{name: "hosts-dead", about: "2,000 hosts on another interface that are not there, each sent to once a second", prepare: sendsToHosts, run: deadHosts},
	{name: "hosts-new", about: "ever other hosts on another interface that are not there, 1,000 a second", prepare: sendsToHosts, run: newDeadHosts},
	{name: "refresh-topics", about: "100,000 topics of a rule with refresh: 1s", prepare: refreshes, run: manyRefreshed},
	{name: "payload-huge", about: "20 messages of 60 MB", victims: allStreams, run: hugePayloads},
	{name: "payload-bad", about: "payloads that are not what the rule decodes, 5,000 a second", prepare: decodes, run: badPayloads},
	{name: "payload-json", about: "JSON that is nested, escaped, wide, or long, 200 a second, to a rule that takes a field of it", prepare: takesField, run: hostileJSON},
}

// flooder connects another publisher with mosquitto.
func (r *rig) flooder() *harness.Client {
	c, err := r.client("flooder")
	if err != nil {
		r.fail("%v", err)
		return nil
	}
	return c
}

// publish publishes by a client of the attacker's; the messages are for a stream's rule, or
// for none of them. It reports whether that went well.
func (r *rig) publish(c *harness.Client, stream, topic string, qos byte, id uint16, payload []byte) error {
	r.spend(cost{Messages: 1, Bytes: len(topic) + len(payload)})
	if s := r.stream(stream); s != nil {
		s.offer(1)
	}
	return publish(topic, qos, id, payload).Write(c)
}

// flood publishes so many messages a second, on topics by number.
func (r *rig) publishMany(perSecond, most int, stream string, topic func(i int) string, payload []byte) {
	c := r.flooder()
	if c == nil {
		return
	}
	r.spend(cost{Connections: 1})
	r.pace(perSecond, most, func(i int) error {
		return r.publish(c, stream, topic(i), 1, uint16(i%65535)+1, payload)
	})
}

func thousandRules(r *rig) {
	for i := range 1000 {
		r.setup.send = append(r.setup.send, fmt.Sprintf("name: f%d, filter: 'fan/+', group: '239.50.%d.%d:5000', interface: iso0", i, i/256, i%256))
	}
	for _, i := range fanWatched { // one device cannot hear them all
		r.watch(fmt.Sprintf("f%d", i), "", netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 50, byte(i / 256), byte(i)}), 5000))
	}
}

var fanWatched = []int{0, 499, 999}

func fanOut(r *rig) {
	for _, s := range r.others {
		s.offer(r.many(4000))
	}
	r.publishMany(100000, r.many(4000), "", func(int) string { return "fan/out" }, make([]byte, 16))
	r.last()
}

func publishTopics(n, size int) func(*rig) {
	return func(r *rig) {
		r.publishMany(10000, r.many(n), victimSend, func(i int) string {
			head := fmt.Sprintf("v/%d/", i)
			return head + strings.Repeat("x", size-len(head))
		}, []byte("x"))
	}
}

func badGroups(r *rig) {
	r.setup.send = append(r.setup.send, "name: bad, filter: 'bad/{id}', group: '239.51.0.{id}:5000', interface: iso0")
	r.watch("bad", "", netip.AddrPort{})
}

func noGroups(r *rig) {
	r.publishMany(5000, 0, "bad", func(i int) string { return fmt.Sprintf("bad/none-%d", i) }, []byte("x"))
}

// sendsToHosts does not watch what is lost of the rule: what the kernel takes for a host before it has asked for it
// in vain counts as sent.
func sendsToHosts(r *rig) {
	r.setup.send = append(r.setup.send, "name: hosts, filter: 'hosts/{a}/{b}', host: '172.18.{a}.{b}:5000', interface: iso1")
}

func deadHost(i int) string { return fmt.Sprintf("hosts/%d/%d", 1+i/250, 1+i%250) }

func deadHosts(r *rig) {
	r.publishMany(2000, 0, "", func(i int) string { return deadHost(i % 2000) }, []byte("x"))
}

func newDeadHosts(r *rig) {
	r.publishMany(1000, 0, "", deadHost, []byte("x"))
}

func refreshes(r *rig) {
	r.setup.send = append(r.setup.send, "name: kept, filter: 'kept/#', group: '239.51.1.3:5000', interface: iso0, refresh: 1s")
}

func manyRefreshed(r *rig) {
	r.publishMany(10000, r.many(100000), "", func(i int) string { return fmt.Sprintf("kept/%d", i) }, make([]byte, 16))
	r.last()
}

// hugePayloads keep the line to the broker, which is everybody's, until the last byte of
// them has come by.
func hugePayloads(r *rig) {
	huge := make([]byte, 60e6)
	n := r.many(20)
	r.publishMany(4, n, victimSend, func(int) string { return "v/huge" }, huge)
	r.until(2*time.Minute, func() bool {
		counted, err := r.counted()
		return err == nil && counted[victimSend] >= n
	})
}

func decodes(r *rig) {
	r.setup.send = append(r.setup.send, "name: hex, filter: 'hex/#', group: '239.51.1.1:5000', interface: iso0, payload: hex")
	r.watch("hex", "", netip.MustParseAddrPort("239.51.1.1:5000"))
}

func badPayloads(r *rig) {
	r.publishMany(5000, 0, "hex", func(i int) string { return fmt.Sprintf("hex/%d", i%1000) }, []byte("not hex"))
}

func takesField(r *rig) {
	r.setup.send = append(r.setup.send, "name: json, filter: 'json/#', group: '239.51.1.2:5000', interface: iso0, payload: 'json:/a/b'")
	r.watch("json", "", netip.MustParseAddrPort("239.51.1.2:5000"))
}

// hostileJSON has what readers of JSON are known to take long for, or too much memory.
func hostileJSON(r *rig) {
	const size = 60000
	payloads := []string{
		strings.Repeat("[", size),
		strings.Repeat(`{"a":`, size/5),
		`{"a":` + strings.Repeat("[", size/2) + strings.Repeat("]", size/2) + `}`,
		`{"a":{"b":"` + strings.Repeat(`\u0041`, size/6) + `"}}`,
		`{"a":{"b":"` + strings.Repeat(`\ud800`, size/6) + `"}}`,
		`{` + strings.Repeat(`"a":{"b":1},`, size/12) + `"a":{"b":"last"}}`,
		`{"a":{"b":1` + strings.Repeat("0", size) + `}}`,
		`{"a":{"b":1e` + strings.Repeat("9", size) + `}}`,
		`{"a":{"b":"` + strings.Repeat("x", 2*size) + `"}}`,
		`{"a":{"b":` + strings.Repeat(" ", size),
		strings.Repeat("\xff\xfe", size/2),
	}
	c := r.flooder()
	if c == nil {
		return
	}
	r.spend(cost{Connections: 1})
	r.pace(200, 0, func(i int) error {
		return r.publish(c, "json", fmt.Sprintf("json/%d", i), 1, uint16(i%65535)+1, []byte(payloads[i%len(payloads)]))
	})
}
