//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
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
	{name: "broker-dies-publish", about: "a broker that dies of each PUBLISH", victims: allStreams, prepare: meddled, run: dies[*packets.PublishPacket]},
	{name: "broker-dies-subscribe", about: "a broker that dies of each SUBSCRIBE", victims: allStreams, prepare: meddled, run: dies[*packets.SubscribePacket]},
	{name: "broker-dies-connect", about: "a broker that dies of each CONNECT", victims: allStreams, prepare: meddled, run: dies[*packets.ConnectPacket]},
	{name: "broker-refuses", about: "a broker that refuses 10,000 filters", victims: bySession, prepare: meddled, run: refusesFilters},
	{name: "broker-refuses-connect", about: "a broker that refuses each CONNECT: not authorized", victims: allStreams, prepare: meddled, run: refusesConnect},
	{name: "broker-silent", about: "a broker that acknowledges nothing", victims: []string{victimReceive, neighbourReceive}, prepare: meddled, run: acknowledgesNothing},
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
				out.Write(answerTo(kind, 30000+n%30000))
			}
			r.spend(cost{Packets: batch, Bytes: out.Len()})
			_ = r.meddler.inject(out.Bytes())
			return nil
		})
	}
}

// answerTo is an answer to an identifier, as short as it can be.
func answerTo(kind byte, id uint16) []byte {
	switch kind {
	case packets.Pubrel:
		return binary.BigEndian.AppendUint16([]byte{kind<<4 | 2, 2}, id)
	case packets.Suback:
		const granted = 1
		return append(binary.BigEndian.AppendUint16([]byte{kind << 4, 3}, id), granted)
	}
	return binary.BigEndian.AppendUint16([]byte{kind << 4, 2}, id)
}

func qos2(r *rig) {
	meddled(r)
	r.setup.send = append(r.setup.send, "name: twice, filter: 'q2/#', qos: 2, group: '239.52.1.1:5000', interface: iso0")
	r.watch("twice", "", netip.MustParseAddrPort("239.52.1.1:5000"))
}

// neverReleased publishes to the bridge with each identifier there is, and keeps what it
// says of that from the broker, which knows nothing of it.
func neverReleased(r *rig) {
	r.meddler.judgeBy(func(fromBridge bool, p packets.ControlPacket) verdict {
		if _, ok := p.(*packets.PubrecPacket); ok && fromBridge {
			return hold
		}
		return pass
	})
	payload := make([]byte, 1000)
	r.pace(20000, r.many(65535), func(i int) error {
		var out writer
		_ = publish("q2/x", 2, uint16(i)+1, payload).Write(&out)
		r.spend(cost{Packets: 1, Bytes: len(out)})
		r.others["twice"].offer(1)
		return r.meddler.inject(out)
	})
	r.last()
	r.meddler.judgeBy(nil)
	r.meddler.cutAll()
}

// dies has the broker end each connection that brings such a packet.
func dies[P packets.ControlPacket](r *rig) {
	before := r.meddler.connections()
	r.meddler.judgeBy(func(fromBridge bool, p packets.ControlPacket) verdict {
		if _, ok := p.(P); ok && fromBridge {
			return cut
		}
		return pass
	})
	r.meddler.cutAll()
	r.pause(r.times.attack)
	r.meddler.judgeBy(nil)
	r.spend(cost{Connections: r.meddler.connections() - before})
}

// refusesFilters refuses all there are, and then grants them again.
func refusesFilters(r *rig) {
	const refused = 0x80
	var n atomic.Int32
	r.meddler.judgeBy(func(fromBridge bool, p packets.ControlPacket) verdict {
		if a, ok := p.(*packets.SubackPacket); ok && !fromBridge {
			n.Add(int32(len(a.ReturnCodes)))
			for i := range a.ReturnCodes {
				a.ReturnCodes[i] = refused
			}
		}
		if m, ok := p.(*packets.PublishPacket); ok && !fromBridge && m != nil {
			return hold // what is refused does not come
		}
		return pass
	})
	for _, name := range []string{victimSend, neighbourSend} {
		r.streams[name].rest(true)
	}
	r.pause(100 * time.Millisecond)
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
	r.meddler.judgeBy(func(fromBridge bool, p packets.ControlPacket) verdict {
		if a, ok := p.(*packets.ConnackPacket); ok {
			a.ReturnCode = packets.ErrRefusedNotAuthorised
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
	r.meddler.judgeBy(func(fromBridge bool, p packets.ControlPacket) verdict {
		if _, ok := p.(*packets.PubackPacket); ok && !fromBridge {
			return hold
		}
		return pass
	})
	r.pause(r.times.attack)
	r.meddler.judgeBy(nil)
	r.meddler.cutAll()
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
