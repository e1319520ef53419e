//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

// A subscriber has a persistent session and notes all messages that the
// broker has for it, across reconnects. It ends with ctx.
type subscriber struct {
	subscribed chan struct{} // closed when it was the first time
	done       chan struct{}
	qos        byte
	held       map[uint16]bool // of QoS 2: noted, and not released by the broker
}

func startSubscriber(ctx context.Context, qos byte, connect connector, note func(payload []byte)) *subscriber {
	w := &subscriber{subscribed: make(chan struct{}), done: make(chan struct{}), qos: qos, held: map[uint16]bool{}}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			w.session(ctx, connect, note)
			harness.Pause(ctx, redial)
		}
	}()
	return w
}

func (w *subscriber) session(ctx context.Context, connect connector, note func([]byte)) {
	l, err := connect(ctx, "subscriber", false)
	if err != nil {
		return
	}
	defer l.Close()
	if l.Subscribe("f/#", w.qos) != nil {
		return
	}
	for {
		p, err := l.Next()
		if err != nil {
			return
		}
		var answer packets.ControlPacket
		switch p := p.(type) {
		case *packets.SubackPacket:
			select {
			case <-w.subscribed:
			default:
				close(w.subscribed)
			}
		case *packets.PublishPacket:
			if !w.held[p.MessageID] {
				note(p.Payload)
			}
			switch p.Qos {
			case 1:
				answer = ack(packets.Puback, p.MessageID)
			case 2:
				w.held[p.MessageID] = true
				answer = ack(packets.Pubrec, p.MessageID)
			}
		case *packets.PubrelPacket:
			delete(w.held, p.MessageID)
			answer = ack(packets.Pubcomp, p.MessageID)
		}
		if answer != nil && answer.Write(l) != nil {
			return
		}
	}
}

// kick takes the session from whoever has it, as a second client with the same
// name does, and lets go of it when it is taken back. Nothing is acknowledged, so
// that the broker keeps for the first client what it gives to this one.
func kick(ctx context.Context, connect connector, id string) error {
	l, err := connect(ctx, id, false)
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		if _, err := l.Next(); err != nil {
			return nil
		}
	}
}

// takeOver takes the session as steal does, but serves it for so long: it returns the
// numbers of the messages that it has acknowledged, which are all that came but the
// last few. It goes when the session is taken back; that is not waited for.
func takeOver(ctx context.Context, connect connector, id string, serve time.Duration) (numbers []int, err error) {
	l, err := connect(ctx, id, false)
	if err != nil {
		return nil, err
	}
	if err := l.SetDeadline(time.Now().Add(serve + harness.Patience)); err != nil {
		return nil, err
	}
	until, asked := time.Now().Add(serve), false
	for {
		p, err := l.Next()
		if err != nil {
			return nil, err
		}
		switch p := p.(type) {
		case *packets.PingrespPacket:
			// The broker has read all that was written before.
			go io.Copy(io.Discard, l)
			return numbers, nil
		case *packets.PublishPacket:
			if asked {
				continue
			}
			_, number, _, ok := readPayload(p.Payload)
			if !ok {
				return nil, fmt.Errorf("a strange payload: %q", p.Payload)
			}
			numbers = append(numbers, number)
			if err := ack(packets.Puback, p.MessageID).Write(l); err != nil {
				return nil, err
			}
			if asked = time.Now().After(until); asked {
				if err := packets.NewControlPacket(packets.Pingreq).Write(l); err != nil {
					return nil, err
				}
			}
		}
	}
}
