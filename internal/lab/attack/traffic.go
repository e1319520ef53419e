//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// startTraffic has the honest streams run, and counts what comes out of them.
func (r *rig) startTraffic() error {
	if err := r.subscribe(); err != nil {
		return err
	}
	publisher, err := r.client("publisher")
	if err != nil {
		return err
	}
	dev, err := talk(r.Dev, device)
	if err != nil {
		return err
	}
	dev2, err := talk(r.Dev2, netip.MustParseAddr("172.18.0.50"))
	if err != nil {
		dev.Close()
		return err
	}
	listen := func(h *netlab.Host, rule string) {
		r.devices = append(r.devices, h.Listener("eth0", func(d netlab.Received) {
			r.mu.Lock()
			r.sources[rule] = d.Source
			r.mu.Unlock()
			r.hear(h, rule, d)
		}, r.groupOf(rule)))
	}
	listen(r.Dev, victimSend)
	listen(r.Dev2, neighbourSend)
	for _, s := range r.others {
		if s.group.IsValid() {
			r.devices = append(r.devices, r.Dev.Listener("eth0", func(netlab.Received) { s.noteForged() }, s.group))
		}
	}
	id := uint16(0)
	send := map[string]func([]byte) error{
		victimReceive:    func(b []byte) error { return say(dev, groups[victimReceive], b) },
		neighbourReceive: func(b []byte) error { return say(dev2, groups[neighbourReceive], b) },
	}
	for _, name := range []string{victimSend, neighbourSend} {
		send[name] = func(b []byte) error {
			id = id%65535 + 1
			return publish(topics[name], 1, id, b).Write(publisher)
		}
	}
	past := func(b []byte) error { return publish(r.witness.topics+"honest", 0, 0, b).Write(publisher) }
	r.clients.Go(func() {
		defer dev.Close()
		defer dev2.Close()
		r.feed(send, past)
	})
	return nil
}

// hear takes a datagram of a sending rule that a device has received.
func (r *rig) hear(by *netlab.Host, rule string, d netlab.Received) {
	now := time.Now()
	r.streams[rule].note(d.Payload, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard != nil {
		r.heard(by, d, now)
	}
}

// feed makes the honest messages, one of each stream at a time, until the traffic stops;
// past is given those of the witness.
func (r *rig) feed(send map[string]func([]byte) error, past func([]byte) error) {
	ticks := time.NewTicker(time.Second / streamRate)
	defer ticks.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-ticks.C:
		}
		if r.quiet.Load() {
			continue
		}
		_ = past(r.witness.next(time.Now())) // what fails here does so below too
		for name, f := range send {
			if r.streams[name].rests() {
				continue
			}
			if err := f(r.streams[name].next(time.Now())); err != nil && r.ctx.Err() == nil {
				program.Say("%s: %s: %v", r.attack.name, name, err)
				return
			}
		}
	}
}

func talk(h *netlab.Host, from netip.Addr) (c *net.UDPConn, err error) {
	err = h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
		return err
	})
	return c, err
}

func say(c *net.UDPConn, to netip.AddrPort, b []byte) error {
	_, err := c.WriteToUDPAddrPort(b, to)
	return err
}

// client connects with mosquitto on its own host. What comes is thrown away.
func (r *rig) client(id string) (*harness.Client, error) {
	c, err := r.connect(r.ctx, id, true)
	if err == nil {
		r.clients.Go(func() {
			for buf := make([]byte, 64<<10); err == nil; {
				_, err = c.Read(buf)
			}
		})
	}
	return c, err
}

func (r *rig) connect(ctx context.Context, id string, clean bool) (*harness.Client, error) {
	conn, err := harness.Dial(ctx, r.Lan, localAddress)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return harness.Connect(conn, id, clean)
}

// subscribe counts what the receiving rules publish, and what the witness does.
func (r *rig) subscribe() error {
	filters := []string{"r/#", r.witness.topics + "#"}
	err := r.listenTo("subscriber", 1, filters, func(m *packets.PublishPacket) {
		if s := r.publishedBy(m.TopicName); forged(m.TopicName) {
			s.noteForged()
		} else {
			s.note(m.Payload, time.Now())
		}
	})
	for name, s := range r.others {
		if s.topics != "" && err == nil {
			// By a connection of its own, and without acknowledgements: it is not to stand before
			// what is honest, and to be as little as can be to mosquitto.
			err = r.listenTo("subscriber-"+name, 0, []string{s.topics + "#"}, func(*packets.PublishPacket) { s.noteForged() })
		}
	}
	return err
}

// listenTo calls note with each message of the filters, from a goroutine.
func (r *rig) listenTo(id string, qos byte, filters []string, note func(*packets.PublishPacket)) error {
	c, err := r.connect(r.ctx, id, true)
	if err != nil {
		return err
	}
	for _, filter := range filters {
		if err := c.Subscribe(filter, qos); err != nil {
			return err
		}
		if p, err := c.Next(); err != nil {
			return fmt.Errorf("subscribe: %v, %w", p, err)
		}
	}
	r.clients.Go(func() {
		for {
			p, err := c.Next()
			if err != nil {
				return
			}
			m, ok := p.(*packets.PublishPacket)
			if !ok {
				continue
			}
			note(m)
			if m.Qos > 0 && ack(m.MessageID).Write(c) != nil {
				return
			}
		}
	})
	return nil
}

// publishedBy is the honest stream whose messages have a topic.
func (r *rig) publishedBy(topic string) *stream {
	switch {
	case strings.HasPrefix(topic, r.witness.topics):
		return r.witness
	case strings.HasPrefix(topic, "r/v"):
		return r.streams[victimReceive]
	}
	return r.streams[neighbourReceive]
}

// forged reports whether a topic names a sender that is not the honest one.
func forged(topic string) bool {
	return strings.HasPrefix(topic, "r/v/172.17.") && !strings.HasPrefix(topic+"/", "r/v/"+device.String()+"/")
}

func ack(id uint16) packets.ControlPacket {
	p := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	p.MessageID = id
	return p
}

// publishFrame is what a broker writes to the bridge.
func (r *rig) publishFrame(topic string, qos byte, id uint16, payload []byte) []byte {
	if r.protocol.Five() {
		payload = append([]byte{0}, payload...) // before it are the properties: none
	}
	var out bytes.Buffer
	_ = publish(topic, qos, id, payload).Write(&out) // memory takes all
	return out.Bytes()
}

func publish(topic string, qos byte, id uint16, payload []byte) *packets.PublishPacket {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, qos, id, payload
	return p
}
