//go:build linux

package main

import (
	"context"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

// A connector connects a client with the broker until ctx ends at the latest.
type connector func(ctx context.Context, id string, clean bool) (*harness.Client, error)

// connectLocal connects from the broker's own host.
func (r *rig) connectLocal(ctx context.Context, id string, clean bool) (*harness.Client, error) {
	return r.connect(ctx, localAddress, id, clean)
}

// connectFront connects where the bridge does.
func (r *rig) connectFront(ctx context.Context, id string, clean bool) (*harness.Client, error) {
	return r.connect(ctx, brokerAddress, id, clean)
}

func (r *rig) connect(ctx context.Context, address, id string, clean bool) (*harness.Client, error) {
	conn, err := harness.Dial(ctx, r.Lan, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return harness.Connect(conn, id, clean)
}

// ack makes PUBACK, PUBREC, PUBREL or PUBCOMP.
func ack(kind byte, id uint16) packets.ControlPacket {
	p := packets.NewControlPacket(kind)
	switch p := p.(type) {
	case *packets.PubackPacket:
		p.MessageID = id
	case *packets.PubrecPacket:
		p.MessageID = id
	case *packets.PubrelPacket:
		p.MessageID = id
	case *packets.PubcompPacket:
		p.MessageID = id
	}
	return p
}

func publish(topic string, qos byte, id uint16, payload []byte) *packets.PublishPacket {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, qos, id, payload
	return p
}
