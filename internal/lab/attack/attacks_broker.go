//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

// What a hostile or a sick broker can do within MQTT. Where it ends the connection, all
// streams go by what is attacked.
var brokerAttacks = []attack{
	{name: "broker-pubrec", about: "PUBREC for identifiers that nothing was published with, 100,000 a second", victims: allStreams, prepare: meddled, run: unknownIDs(packets.Pubrec)},
	{name: "broker-puback", about: "PUBACK for identifiers that nothing was published with, 100,000 a second", victims: allStreams, prepare: meddled, run: unknownIDs(packets.Puback)},
	{name: "broker-pubcomp", about: "PUBCOMP for identifiers that nothing was published with, 100,000 a second", victims: allStreams, prepare: meddled, run: unknownIDs(packets.Pubcomp)},
	{name: "broker-suback", about: "SUBACK for identifiers that nothing was asked for with, 100,000 a second", victims: allStreams, prepare: meddled, run: unknownIDs(packets.Suback)},
	{name: "broker-unsuback", about: "UNSUBACK likewise, 100,000 a second", victims: allStreams, prepare: meddled, run: unknownIDs(packets.Unsuback)},
	{name: "broker-pubrel", about: "PUBREL for identifiers that it published nothing with, 100,000 a second", victims: allStreams, prepare: meddled, run: unknownIDs(packets.Pubrel)},
	{name: "broker-qos2", about: "65,535 messages of QoS 2 that are never released", victims: toSend, prepare: qos2, run: neverReleased},
	{name: "broker-dies-publish", about: "a broker that dies of each PUBLISH", victims: allStreams, prepare: meddled, run: dies(packets.Publish)},
	{name: "broker-dies-subscribe", about: "a broker that dies of each SUBSCRIBE", victims: allStreams, prepare: meddled, run: dies(packets.Subscribe)},
	{name: "broker-dies-connect", about: "a broker that dies of each CONNECT", victims: allStreams, prepare: meddled, run: dies(packets.Connect)},
	{name: "broker-refuses", about: "a broker that refuses 10,000 filters", victims: bySession, prepare: meddled, run: refusesFilters},
	{name: "broker-refuses-connect", about: "a broker that refuses each CONNECT: not authorized", victims: allStreams, prepare: meddled, run: refusesConnect},
	{name: "broker-silent", about: "a broker that acknowledges nothing", victims: []string{victimReceive, neighbourReceive}, prepare: meddled, run: acknowledgesNothing},
	{name: "broker-properties", about: "messages of MQTT 5 with 200,000 bytes of properties, 200 a second", victims: toSend, five: true, prepare: meddled, run: hugeProperties},
	{name: "broker-terms", about: "a broker of MQTT 5 that takes one message at a time, no packet above 40 bytes, and wants a sign of life every two seconds", victims: allStreams, five: true, prepare: meddled, run: narrowTerms},
	{name: "broker-takeover", about: "another client that takes the session over, ten times a second", victims: allStreams, run: takeOver},
}

// unknownIDs floods the bridge with answers to what it never asked. That the bridge ends
// the connection is what it may do; the flood goes on over the next.
func unknownIDs(kind byte) func(*rig) {
	return func(r *rig) {
		const batch = 1000
		n := uint16(0)
		var out bytes.Buffer
		r.pace(100, 0, func(int) error {
			out.Reset()
			for range batch {
				n++
				// Identifiers that are not in use at so low a rate.
				out.Write(answerTo(r.protocol.Five(), kind, 30000+n%30000))
			}
			r.spend(cost{Packets: batch, Bytes: out.Len()})
			_ = r.meddler.inject(out.Bytes())
			return nil
		})
	}
}

// answerTo is an answer to an identifier, as short as it can be: in MQTT 5 a SUBACK and an
// UNSUBACK have properties, and both a code.
func answerTo(five bool, kind byte, id uint16) []byte {
	flags, rest := byte(0), []byte(nil)
	switch {
	case kind == packets.Pubrel:
		flags = 2
	case five && kind == packets.Suback:
		rest = []byte{0, 1} // granted, with QoS 1
	case five && kind == packets.Unsuback:
		rest = []byte{0, 0}
	case kind == packets.Suback:
		rest = []byte{1}
	}
	head := []byte{kind<<4 | flags, byte(2 + len(rest))}
	return append(binary.BigEndian.AppendUint16(head, id), rest...)
}

func qos2(r *rig) {
	meddled(r)
	r.setup.send = append(r.setup.send, "name: twice, filter: 'q2/#', qos: 2, group: '239.52.1.1:5000', interface: iso0")
	r.watch("twice", "", netip.MustParseAddrPort("239.52.1.1:5000"))
}

// neverReleased publishes to the bridge with each identifier there is, and keeps what it
// says of that from the broker, which knows nothing of it.
func neverReleased(r *rig) {
	r.meddler.judgeBy(func(fromBridge bool, f harness.Frame) verdict {
		if fromBridge && f.Kind() == packets.Pubrec {
			return hold
		}
		return pass
	})
	payload := make([]byte, 1000)
	r.pace(20000, r.many(65535), func(i int) error {
		out := r.publishFrame("q2/x", 2, uint16(i)+1, payload)
		r.spend(cost{Packets: 1, Bytes: len(out)})
		r.others["twice"].offer(1)
		return r.meddler.inject(out)
	})
	r.last()
	r.meddler.judgeBy(nil)
	r.meddler.cutAll()
}

// dies has the broker end each connection that brings such a packet.
func dies(kind byte) func(*rig) {
	return func(r *rig) {
		before := r.meddler.connections()
		r.meddler.judgeBy(func(fromBridge bool, f harness.Frame) verdict {
			if fromBridge && f.Kind() == kind {
				return cut
			}
			return pass
		})
		r.meddler.cutAll()
		r.pause(r.times.attack)
		r.meddler.judgeBy(nil)
		r.spend(cost{Connections: r.meddler.connections() - before})
	}
}

// refusesFilters refuses all there are, and then grants them again.
func refusesFilters(r *rig) {
	const refused = 0x80
	for _, name := range []string{victimSend, neighbourSend} {
		r.streams[name].rest(true)
	}
	r.pause(100 * time.Millisecond) // what is on its way is not to be held
	var n atomic.Int32
	r.meddler.judgeBy(func(fromBridge bool, f harness.Frame) verdict {
		switch {
		case fromBridge:
		case f.Kind() == packets.Suback:
			codes := f.Codes(r.protocol.Five())
			n.Add(int32(len(codes)))
			for i := range codes {
				codes[i] = refused
			}
		case f.Kind() == packets.Publish:
			return hold // what is refused does not come
		}
		return pass
	})
	r.meddler.cutAll()
	var slowest time.Duration
	for began := time.Now(); time.Since(began) < r.times.attack && r.ctx.Err() == nil; r.pause(500 * time.Millisecond) {
		asked := time.Now()
		if _, err := r.status(victimSend); err == nil {
			slowest = max(slowest, time.Since(asked))
		}
	}
	r.addNote("%d filters refused; /status?match= took %.2f s at most meanwhile", n.Load(), slowest.Seconds())
	r.meddler.judgeBy(nil)
	r.spend(cost{Connections: 1})
	for _, name := range []string{victimSend, neighbourSend} {
		r.streams[name].rest(false)
	}
}

// refusesConnect answers as a broker does whose passwords were changed.
func refusesConnect(r *rig) {
	before := r.meddler.connections()
	notAuthorized := byte(packets.ErrRefusedNotAuthorised)
	if r.protocol.Five() {
		notAuthorized = 0x87
	}
	r.meddler.judgeBy(func(fromBridge bool, f harness.Frame) verdict {
		if !fromBridge && f.Kind() == packets.Connack {
			f.Body()[0], f.Body()[1] = 0, notAuthorized // no session present [MQTT-3.2.2-4]
		}
		return pass
	})
	r.meddler.cutAll()
	r.pause(r.times.attack)
	r.meddler.judgeBy(nil)
	r.spend(cost{Connections: r.meddler.connections() - before})
}

// acknowledgesNothing lets everything pass but the broker's acknowledgements.
func acknowledgesNothing(r *rig) {
	r.meddler.judgeBy(func(fromBridge bool, f harness.Frame) verdict {
		if !fromBridge && f.Kind() == packets.Puback {
			return hold
		}
		return pass
	})
	r.pause(r.times.attack)
	r.meddler.judgeBy(nil)
	r.meddler.cutAll()
}

// hugeProperties has what a message carries beside its payload, and no rule asks for: user
// properties, of which there may be any number.
func hugeProperties(r *rig) {
	const pairs, size = 40, 5000
	pair := append([]byte{0x26, 0, 1, 'k', size >> 8, size & 0xff}, bytes.Repeat([]byte{'x'}, size)...)
	props := bytes.Repeat(pair, pairs)
	topic := []byte("\x00\x07v/props")
	length := binary.AppendUvarint(nil, uint64(len(props)))
	frame := binary.AppendUvarint([]byte{packets.Publish << 4}, uint64(len(topic)+len(length)+len(props)+1))
	frame = slices.Concat(frame, topic, length, props, []byte("x"))
	r.pace(200, 0, func(int) error {
		r.spend(cost{Messages: 1, Bytes: len(frame)})
		r.streams[victimSend].offer(1)
		return r.meddler.inject(frame)
	})
}

// narrowTerms has the broker take as little as it may say that it takes: what is larger than
// that is given up, and counted.
func narrowTerms(r *rig) {
	before := r.meddler.connections()
	terms := []byte("\x21\x00\x01" + "\x27\x00\x00\x00\x28" + "\x13\x00\x02") // Receive Maximum, Maximum Packet Size, Server Keep Alive
	r.meddler.judgeBy(func(fromBridge bool, f harness.Frame) verdict {
		if fromBridge || f.Kind() != packets.Connack {
			return pass
		}
		answer := append([]byte{packets.Connack << 4, byte(3 + len(terms)), f.Body()[0], 0, byte(len(terms))}, terms...)
		_ = r.meddler.inject(answer) // a connection that is gone needs none
		return hold
	})
	r.meddler.cutAll()
	r.pause(r.times.attack)
	r.meddler.judgeBy(nil)
	r.meddler.cutAll()
	r.spend(cost{Connections: r.meddler.connections() - before})
}

// takeOver connects by the bridge's name, again and again. It acknowledges nothing, so
// that what the broker gives it is the bridge's again.
func takeOver(r *rig) {
	r.pace(10, 0, func(int) error {
		c, err := r.connect(r.ctx, clientID, false)
		r.spend(cost{Connections: 1})
		if err == nil {
			err = c.Close()
		}
		return err
	})
}
